#pragma once

// The mixture-of-experts layer in float64 by plain loops, token by token, for tests of the kernels.

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "kernels/experts/moe_layer.h"
#include "tests/activation_reference.h"
#include "tests/random_values.h"

namespace moat::tests {

using Values = std::vector<double>;

// What a layer computes from. Biases and priority may be empty.
struct LayerProblem {
  int tokens, experts, k, width, inner, out_width;
  int capacity = 0;
  kernels::GateForm form = kernels::GateForm::softmax_topk;
  kernels::ExpertActivation activation = kernels::ExpertActivation::gelu;
  Values x = {}, logits = {}, priority = {}, w_in = {}, b_in = {}, w_out = {}, b_out = {};

  int hidden() const { return kernels::activated_width(activation, inner); }
};

inline size_t count_of(int a, int b, int c = 1) { return size_t(a) * size_t(b) * size_t(c); }

// The problem with normal draws in all of its tensors.
inline LayerProblem filled(LayerProblem p, unsigned seed) {
  p.x = normals(count_of(p.tokens, p.width), seed);
  p.logits = normals(count_of(p.tokens, p.experts), seed + 1);
  p.w_in = normals(count_of(p.experts, p.inner, p.width), seed + 2, 0.5);
  p.b_in = normals(count_of(p.experts, p.inner), seed + 3);
  p.w_out = normals(count_of(p.experts, p.out_width, p.hidden()), seed + 4, 0.5);
  p.b_out = normals(count_of(p.experts, p.out_width), seed + 5);
  return p;
}

struct LayerReference {
  Values y, bound;  // bound: the sum of |a||b| behind each y, what rounding is measured by
  std::vector<int> experts;
  Values weights;
  std::vector<bool> dropped;  // [tokens, k]
};

inline void choose_experts(const LayerProblem& p, LayerReference& out) {
  using kernels::GateForm;
  for (int t = 0; t < p.tokens; ++t) {
    const double* z = p.logits.data() + count_of(t, p.experts);
    std::vector<int> order(static_cast<size_t>(p.experts));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int i, int j) { return z[i] > z[j]; });
    double all = 0, chosen = 0;
    for (int e = 0; e < p.experts; ++e) all += std::exp(z[e]);
    for (int j = 0; j < p.k; ++j) chosen += std::exp(z[order[size_t(j)]]);
    for (int j = 0; j < p.k; ++j) {
      const double logit = z[order[size_t(j)]];
      out.experts.push_back(order[size_t(j)]);
      out.weights.push_back(p.form == GateForm::sigmoid_topk   ? 1 / (1 + std::exp(-logit))
                            : p.form == GateForm::softmax_topk ? std::exp(logit) / all
                                                               : std::exp(logit) / chosen);
    }
  }
}

inline void drop_choices(const LayerProblem& p, LayerReference& out) {
  out.dropped.assign(count_of(p.tokens, p.k), false);
  if (p.capacity == 0) return;
  std::vector<int> order(static_cast<size_t>(p.tokens)), used(static_cast<size_t>(p.experts));
  std::iota(order.begin(), order.end(), 0);
  if (!p.priority.empty())
    std::stable_sort(order.begin(), order.end(),
                     [&](int s, int t) { return p.priority[size_t(s)] > p.priority[size_t(t)]; });
  for (int j = 0; j < p.k; ++j)
    for (int t : order) {
      const size_t pair = count_of(t, p.k) + size_t(j);
      out.dropped[pair] = ++used[size_t(out.experts[pair])] > p.capacity;
    }
}

// Adds what expert e makes of a token, times its weight, to a row of y.
inline void add_expert(const LayerProblem& p, const Values& row, int e, double weight,
                       LayerReference& out, size_t first) {
  const auto expert = static_cast<size_t>(e);
  Values pre(static_cast<size_t>(p.inner));
  for (size_t i = 0; i < pre.size(); ++i) {
    const size_t filter = expert * pre.size() + i;
    pre[i] = p.b_in.empty() ? 0 : p.b_in[filter];
    for (size_t j = 0; j < row.size(); ++j) pre[i] += p.w_in[filter * row.size() + j] * row[j];
  }
  const auto hidden = static_cast<size_t>(p.hidden()), columns = static_cast<size_t>(p.out_width);
  const bool gated = p.activation == kernels::ExpertActivation::swiglu;
  for (size_t n = 0; n < columns; ++n) {
    const size_t filter = expert * columns + n;
    double sum = p.b_out.empty() ? 0 : p.b_out[filter], bound = std::abs(sum);
    for (size_t j = 0; j < hidden; ++j) {
      const double value = gated ? pre[j + hidden] : 1;
      const double term = p.w_out[filter * hidden + j] * activated(p.activation, pre[j]) * value;
      sum += term;
      bound += std::abs(p.w_out[filter * hidden + j]) + std::abs(term);
    }
    out.y[first + n] += weight * sum;
    out.bound[first + n] += std::abs(weight) * bound;
  }
}

inline LayerReference layer_reference(const LayerProblem& p) {
  LayerReference out;
  choose_experts(p, out);
  drop_choices(p, out);
  out.y.assign(count_of(p.tokens, p.out_width), 0);
  out.bound = out.y;
  for (int t = 0; t < p.tokens; ++t) {
    const auto token = p.x.begin() + static_cast<int64_t>(count_of(t, p.width));
    for (int j = 0; j < p.k; ++j) {
      const size_t pair = count_of(t, p.k) + size_t(j);
      if (!out.dropped[pair])
        add_expert(p, Values(token, token + p.width), out.experts[pair], out.weights[pair], out,
                   count_of(t, p.out_width));
    }
  }
  return out;
}

}  // namespace moat::tests
