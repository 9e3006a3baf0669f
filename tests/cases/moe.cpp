#include "engine/ops/moe.h"

#include <cmath>
#include <limits>
#include <utility>

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

// weights, experts, log-sum-exp, margin by repeated search for the largest score.
Tensors gate_reference(const Tensor& logits, const Tensor& bias, int k, GateForm form) {
  const int64_t tokens = logits.dim(0), n = logits.dim(1);
  const Tensor weights = Tensor::empty({tokens, k}, Dtype::f64),
               experts = Tensor::empty({tokens, k}, Dtype::i32),
               log_sum_exp = Tensor::empty({tokens}, Dtype::f64),
               margin = Tensor::full({tokens}, std::numeric_limits<double>::infinity(), Dtype::f64);
  for (int64_t t = 0; t < tokens; ++t) {
    const double* z = f64(logits) + t * n;
    std::vector<double> scores(z, z + n);
    if (form == GateForm::sigmoid_topk)
      for (size_t i = 0; i < scores.size(); ++i)
        scores[i] = sigmoid_of(scores[i]) + (bias.defined() ? f64(bias)[i] : 0);
    double all = 0, chosen = 0, last = 0;
    for (int64_t i = 0; i < n; ++i) all += std::exp(z[i]);
    f64(log_sum_exp)[t] = std::log(all);
    for (int j = 0; j <= k && j < n; ++j) {
      size_t best = 0;
      for (size_t i = 1; i < scores.size(); ++i)
        if (scores[i] > scores[best]) best = i;
      if (j == k) {
        f64(margin)[t] = last - scores[best];
        break;
      }
      last = scores[best];
      scores[best] = -std::numeric_limits<double>::infinity();
      experts.data_as<int32_t>()[t * k + j] = static_cast<int32_t>(best);
      f64(weights)[t * k + j] =
          form == GateForm::sigmoid_topk ? sigmoid_of(z[best]) : std::exp(z[best]) / all;
      chosen += std::exp(z[best]) / all;
    }
    if (form == GateForm::softmax_topk_renorm || form == GateForm::topk_softmax)
      for (int j = 0; j < k; ++j) f64(weights)[t * k + j] /= chosen;
  }
  return {weights, experts, log_sum_exp, margin};
}

OpCase gate_case(int64_t tokens, int num_experts, int k, GateForm form, const Tensor& bias = {}) {
  const Shape shape{tokens, num_experts};
  const Tensor logits = randn(shape, 5);
  Tensors inputs{logits};
  if (bias.defined()) inputs.push_back(bias);
  const auto bias_in = [](const Tensors& in) { return in.size() > 1 ? in[1] : Tensor{}; };
  return {
      .name = std::string("topk_gate ") + name_of_form(form) + " " + shape.str() +
              " k=" + std::to_string(k) + (bias.defined() ? " bias" : ""),
      .inputs = inputs,
      .op =
          [=](const Tensors& in) {
            const Gate g = topk_gate(in[0], k, form, bias_in(in));
            return Tensors{g.weights, g.experts, g.log_sum_exp, g.margin};
          },
      .reference = [=](const Tensors& in) { return gate_reference(in[0], bias_in(in), k, form); },
      .differentiable = {0},
      .f32 = 1e-6,  // a few roundings of results around 1; sums run in float64
      .bytes = 4.0 * static_cast<double>(tokens) * (num_experts + 2 * k + 2)};
}

OpCase straight_through_case(int64_t tokens, int num_experts, StraightThrough form) {
  const Shape shape{tokens, num_experts};
  return {
      .name = std::string("straight_through_gate ") +
              (form == StraightThrough::raw ? "raw " : "softmax ") + shape.str(),
      .inputs = {randn(shape, 6), rand_ints({tokens}, 0, num_experts, 7)},
      .op = [=](const Tensors& in) { return Tensors{straight_through_gate(in[0], in[1], form)}; },
      .reference =
          [](const Tensors& in) { return Tensors{Tensor::full({in[0].dim(0)}, 1, Dtype::f64)}; },
      .bytes = 4.0 * static_cast<double>(tokens)};
}

OpCase sort_case(int64_t rows, int num_experts) {
  return {.name = "sort_by_expert [" + std::to_string(rows) + "] E=" + std::to_string(num_experts),
          .inputs = {rand_ints({rows}, 0, num_experts, 8)},
          .op =
              [=](const Tensors& in) {
                const Segments s = sort_by_expert(in[0], num_experts);
                return Tensors{s.order, s.inverse, Tensor::from(s.offsets, {num_experts + 1})};
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

struct GateSize {
  int64_t tokens;
  int num_experts, k;
};

}  // namespace

std::vector<OpCase> moe_cases(Scale scale) {
  constexpr GateForm forms[] = {GateForm::softmax_topk, GateForm::softmax_topk_renorm,
                                GateForm::topk_softmax, GateForm::sigmoid_topk};
  std::vector<OpCase> out;
  if (scale == Scale::bench) {
    for (const auto& [tokens, n, k] : {GateSize{65536, 8, 2}, {65536, 64, 8}, {65536, 256, 8}})
      for (GateForm form : forms) out.push_back(gate_case(tokens, n, k, form));
    out.push_back(sort_case(524288, 64));
  } else {
    for (const auto& [tokens, n, k] :
         {GateSize{5, 8, 2}, {3, 7, 3}, {2, 5, 5}, {1, 1, 1}, {0, 4, 1}, {4, 67, 8}, {2, 256, 8}})
      for (GateForm form : forms) out.push_back(gate_case(tokens, n, k, form));
    for (int k : {1, 3, 11})
      out.push_back(gate_case(6, 11, k, GateForm::sigmoid_topk, randn({11}, 9)));
    for (StraightThrough form : {StraightThrough::raw, StraightThrough::softmax})
      for (int64_t tokens : {0, 1, 5}) out.push_back(straight_through_case(tokens, 3, form));
    for (int64_t rows : {0, 1, 7, 1000})
      for (int n : {1, 2, 9}) out.push_back(sort_case(rows, n));
  }
  for (OpCase& c : grouped_conv_cases(scale)) out.push_back(std::move(c));
  return out;
}

}  // namespace moat::tests
