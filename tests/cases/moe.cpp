#include "engine/ops/moe.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>
#include <utility>

#include "engine/ops/elementwise.h"
#include "engine/ops/gate_losses.h"

#include "tests/op_case.h"

namespace moat::tests {

using namespace engine;

namespace {

const char* name_of_form(GateForm form) {
  switch (form) {
    case GateForm::softmax_topk:
      return "softmax_topk";
    case GateForm::softmax_topk_renorm:
      return "softmax_topk_renorm";
    case GateForm::topk_softmax:
      return "topk_softmax";
    case GateForm::sigmoid_topk:
      return "sigmoid_topk";
  }
  return "";
}

double sigmoid_of(double x) { return 1 / (1 + std::exp(-x)); }

constexpr RandomKey kNoiseKey{
    .seed = 3, .purpose = Purpose::gate_noise, .iteration = 4, .stream = 5};

struct GateCase {
  int64_t tokens;
  int num_experts, k;
  GateForm form = GateForm::softmax_topk;
  bool biased = false;
  double deviation = 0;
  ExpertGroups groups = {};

  GateOptions options(const Tensors& in) const {
    return {.bias = biased ? in[1] : Tensor{},
            .noise = {.deviation = deviation, .key = kNoiseKey},
            .groups = groups};
  }
  std::string name(const char* op) const {
    return text(op, " ", name_of_form(form), " [", tokens, ", ", num_experts, "] k=", k,
                biased ? " bias" : "", deviation > 0 ? " noisy" : "",
                groups.count > 1 ? text(" groups ", groups.kept, " of ", groups.count) : "");
  }
};

// The indices of the `count` largest scores, best first, by repeated search.
std::vector<size_t> best_of(std::vector<double> scores, int count) {
  std::vector<size_t> best;
  for (int j = 0; j < count; ++j) {
    best.push_back(0);
    for (size_t i = 1; i < scores.size(); ++i)
      if (scores[i] > scores[best.back()]) best.back() = i;
    scores[best.back()] = -std::numeric_limits<double>::infinity();
  }
  return best;
}

// Lowers the scores of the groups that are not kept; returns what parts the last kept group from
// the next, in units of one score.
double drop_groups(const ExpertGroups& groups, std::vector<double>& scores) {
  const size_t size = scores.size() / static_cast<size_t>(groups.count);
  std::vector<double> sums;
  const bool two = groups.score == GroupScore::two_largest && size > 1;
  for (size_t g = 0; g < scores.size(); g += size) {
    const std::vector<double> mine(scores.begin() + static_cast<int64_t>(g),
                                   scores.begin() + static_cast<int64_t>(g + size));
    double sum = 0;
    for (size_t i : best_of(mine, two ? 2 : 1)) sum += mine[i];
    sums.push_back(sum);
  }
  const auto order = best_of(sums, groups.count);
  for (int j = groups.kept; j < groups.count; ++j)
    for (size_t i = 0; i < size; ++i)
      scores[order[size_t(j)] * size + i] = -std::numeric_limits<double>::infinity();
  const double gap = sums[order[size_t(groups.kept) - 1]] - sums[order[size_t(groups.kept)]];
  return groups.score == GroupScore::two_largest ? gap / 2 : gap;
}

Tensor noisy_of(const GateCase& c, const Tensor& logits) {
  Tensor ids = Tensor::empty({c.tokens}, Dtype::i32);
  for (int64_t t = 0; t < c.tokens; ++t) ids.data_as<int32_t>()[t] = static_cast<int32_t>(t);
  return add(logits, random_normal(logits.shape(), ids, kNoiseKey, 0, c.deviation, Dtype::f64));
}

// weights, experts, log-sum-exp, margin, noisy logits by the definition.
Tensors gate_reference(const GateCase& c, const Tensors& in) {
  const int64_t n = c.num_experts;
  const auto [tokens, k, form] = std::tuple(c.tokens, c.k, c.form);
  const double inf = std::numeric_limits<double>::infinity();
  const Tensor logits = c.deviation > 0 ? noisy_of(c, in[0]) : in[0];
  const Tensor weights = Tensor::empty({tokens, k}, Dtype::f64),
               experts = Tensor::empty({tokens, k}, Dtype::i32),
               log_sum_exp = Tensor::empty({tokens}, Dtype::f64),
               margin = Tensor::full({tokens}, inf, Dtype::f64);
  for (int64_t t = 0; t < tokens; ++t) {
    const double* z = f64(logits) + t * n;
    std::vector<double> scores(z, z + n);
    if (form == GateForm::sigmoid_topk)
      for (size_t i = 0; i < scores.size(); ++i)
        scores[i] = sigmoid_of(scores[i]) + (c.biased ? f64(in[1])[i] : 0);
    if (c.groups.kept < c.groups.count) f64(margin)[t] = drop_groups(c.groups, scores);
    const int eligible = c.num_experts / c.groups.count * c.groups.kept;
    const auto order = best_of(scores, std::min(k + 1, eligible));
    double all = 0, chosen = 0;
    for (int64_t i = 0; i < n; ++i) all += std::exp(z[i]);
    f64(log_sum_exp)[t] = std::log(all);
    if (k < eligible)
      f64(margin)[t] =
          std::min(f64(margin)[t], scores[order[size_t(k) - 1]] - scores[order[size_t(k)]]);
    for (int j = 0; j < k; ++j) {
      const size_t best = order[size_t(j)];
      experts.data_as<int32_t>()[t * k + j] = static_cast<int32_t>(best);
      f64(weights)[t * k + j] =
          form == GateForm::sigmoid_topk ? sigmoid_of(z[best]) : std::exp(z[best]) / all;
      chosen += std::exp(z[best]) / all;
    }
    if (form == GateForm::softmax_topk_renorm || form == GateForm::topk_softmax)
      for (int j = 0; j < k; ++j) f64(weights)[t * k + j] /= chosen;
  }
  Tensors out{weights, experts, log_sum_exp, margin};
  if (c.deviation > 0) out.push_back(logits);
  return out;
}

OpCase gate_case(const GateCase& c) {
  const auto inputs = [=] {
    Tensors out{randn({c.tokens, c.num_experts}, 5)};
    if (c.biased) out.push_back(randn({c.num_experts}, 9));
    return out;
  };
  return {.name = c.name("topk_gate"),
          .inputs = inputs,
          .op =
              [=](const Tensors& in) {
                const Gate g = topk_gate(in[0], c.k, c.form, c.options(in));
                Tensors out{g.weights, g.experts, g.log_sum_exp, g.margin};
                if (g.noisy_logits.defined()) out.push_back(g.noisy_logits);
                return out;
              },
          .reference = [=](const Tensors& in) { return gate_reference(c, in); },
          .differentiable = {0},
          .keep_float32 = {1},
          .f32 = 1e-6,   // a few roundings of results around 1; sums run in float64
          .bf16 = 4e-3,  // of the gradient; the results are float32
          .bytes = 4.0 * static_cast<double>(c.tokens) * (c.num_experts + 2 * c.k + 2)};
}

// Losses of a gate, by their definitions.
Tensors losses_reference(const GateCase& c, const Tensors& in) {
  const int64_t n = c.num_experts, tokens = c.tokens;
  const bool is_noisy = c.deviation > 0;
  const Tensor noisy = is_noisy ? noisy_of(c, in[0]) : in[0];
  std::vector<double> importance(size_t(n), 0), gates = importance, load = importance,
                                                first = importance;
  double z = 0;
  for (int64_t t = 0; t < tokens; ++t) {
    const double *x = f64(in[0]) + t * n, *y = f64(noisy) + t * n;
    double all = 0, all_noisy = 0;
    for (int64_t i = 0; i < n; ++i) all += std::exp(x[i]);
    for (int64_t i = 0; i < n; ++i) all_noisy += std::exp(y[i]);
    const auto order = best_of(std::vector<double>(y, y + n), c.k);
    const double threshold = y[order.back()];
    first[order[0]] += 1;
    z += std::log(all) * std::log(all);
    for (size_t i = 0; i < size_t(n); ++i) {
      importance[i] += std::exp(x[i]) / all;
      gates[i] += std::exp(y[i]) / all_noisy;
      if (is_noisy) load[i] += std::erfc((threshold - x[i]) / (c.deviation * std::sqrt(2.0))) / 2;
    }
  }
  const auto variation = [&](const std::vector<double>& sums) {
    double sum = 0, squares = 0;
    for (double s : sums) sum += s;
    for (double s : sums) squares += s * s;
    return sum == 0 ? 0 : static_cast<double>(n) * squares / (sum * sum) - 1;
  };
  double balance = 0;
  for (size_t i = 0; i < size_t(n); ++i) balance += first[i] * gates[i];
  const auto count = static_cast<double>(std::max<int64_t>(tokens, 1));
  return {Tensor::from(
      std::vector<double>{variation(importance), variation(load),
                          static_cast<double>(n) * balance / (count * count), z / count},
      {4})};
}

OpCase losses_case(const GateCase& c) {
  return {.name = c.name("gate_losses"),
          .inputs =
              [=] {
                return Tensors{randn({c.tokens, c.num_experts}, 5)};
              },
          .op =
              [=](const Tensors& in) {
                return Tensors{gate_losses(in[0], topk_gate(in[0], c.k, c.form, c.options(in)))};
              },
          .reference = [=](const Tensors& in) { return losses_reference(c, in); },
          .differentiable = {0},
          .f32 = 1e-6,
          .bf16 = 4e-3,
          .gradient = 1e-6,
          .bytes = 4.0 * static_cast<double>(c.tokens) * c.num_experts * (c.deviation > 0 ? 2 : 1)};
}

OpCase straight_through_case(int64_t tokens, int num_experts, StraightThrough form) {
  const Shape shape{tokens, num_experts};
  return {
      .name = std::string("straight_through_gate ") +
              (form == StraightThrough::raw ? "raw " : "softmax ") + shape.str(),
      .inputs =
          [=] {
            return Tensors{randn(shape, 6), rand_ints({tokens}, 0, num_experts, 7)};
          },
      .op = [=](const Tensors& in) { return Tensors{straight_through_gate(in[0], in[1], form)}; },
      .reference =
          [](const Tensors& in) { return Tensors{Tensor::full({in[0].dim(0)}, 1, Dtype::f64)}; },
      .bytes = 4.0 * static_cast<double>(tokens)};
}

OpCase sort_case(int64_t rows, int num_experts) {
  return {.name = "sort_by_expert [" + std::to_string(rows) + "] E=" + std::to_string(num_experts),
          .inputs = [=] { return Tensors{rand_ints({rows}, 0, num_experts, 8)}; },
          .op =
              [=](const Tensors& in) {
                const Segments s = sort_by_expert(in[0], num_experts);
                return Tensors{s.order, s.inverse, s.offsets};
              },
          .reference =
              [=](const Tensors& in) {
                std::vector<int32_t> order, offsets{0}, inverse(static_cast<size_t>(rows));
                for (int e = 0; e < num_experts; ++e) {
                  for (int64_t r = 0; r < rows; ++r)
                    if (in[0].data_as<int32_t>()[r] == e) {
                      inverse[size_t(r)] = static_cast<int32_t>(order.size());
                      order.push_back(static_cast<int32_t>(r));
                    }
                  offsets.push_back(static_cast<int32_t>(order.size()));
                }
                return Tensors{Tensor::from(order, {rows}), Tensor::from(inverse, {rows}),
                               Tensor::from(offsets, {num_experts + 1})};
              },
          .bytes = 12.0 * static_cast<double>(rows)};
}

}  // namespace

std::vector<OpCase> moe_cases(Scale scale) {
  constexpr GateForm forms[] = {GateForm::softmax_topk, GateForm::softmax_topk_renorm,
                                GateForm::topk_softmax, GateForm::sigmoid_topk};
  std::vector<OpCase> out;
  if (scale == Scale::bench) {
    for (const GateCase& size : {GateCase{65536, 8, 2}, {65536, 64, 8}, {65536, 256, 8}})
      for (GateForm form : forms) {
        GateCase c = size;
        c.form = form;
        out.push_back(gate_case(c));
      }
    out.push_back(gate_case({65536, 8, 2, GateForm::softmax_topk, false, 0.125}));
    out.push_back(gate_case({65536, 256, 8, GateForm::sigmoid_topk, true, 0, {8, 4}}));
    for (double deviation : {0.0, 0.125})
      out.push_back(losses_case({65536, 8, 2, GateForm::softmax_topk, false, deviation}));
    out.push_back(sort_case(524288, 64));
  } else {
    for (const GateCase& size :
         {GateCase{5, 8, 2}, {3, 7, 3}, {2, 5, 5}, {1, 1, 1}, {0, 4, 1}, {4, 67, 8}, {2, 256, 8}})
      for (GateForm form : forms)
        for (double deviation : {0.0, 0.2}) {
          GateCase c = size;
          c.form = form;
          c.deviation = deviation;
          out.push_back(gate_case(c));
        }
    for (int k : {1, 3, 11}) out.push_back(gate_case({6, 11, k, GateForm::sigmoid_topk, true}));
    for (GroupScore score : {GroupScore::two_largest, GroupScore::largest})
      for (GateForm form : forms) {
        const bool biased = form == GateForm::sigmoid_topk;
        out.push_back(gate_case({5, 12, 3, form, biased, 0, {4, 2, score}}));
        out.push_back(gate_case({3, 6, 2, form, biased, 0, {6, 2, score}}));
        out.push_back(gate_case({4, 64, 8, form, biased, 0.1, {8, 3, score}}));
      }
    for (const GateCase& c :
         {GateCase{5, 8, 2}, {130, 7, 3}, {2, 5, 5}, {1, 1, 1}, {0, 4, 1}, {3, 67, 8}})
      for (double deviation : {0.0, 0.3})
        out.push_back(losses_case({c.tokens, c.num_experts, c.k, c.form, false, deviation}));
    for (StraightThrough form : {StraightThrough::raw, StraightThrough::softmax})
      for (int64_t tokens : {0, 1, 5}) out.push_back(straight_through_case(tokens, 3, form));
    for (int64_t rows : {0, 1, 7, 1000})
      for (int n : {1, 2, 9}) out.push_back(sort_case(rows, n));
  }
  for (OpCase& c : grouped_conv_cases(scale)) out.push_back(std::move(c));
  return out;
}

}  // namespace moat::tests
