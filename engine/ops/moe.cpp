#include "engine/ops/moe.h"

#include "engine/dispatch.h"
#include "engine/tape.h"
#include "kernels/routing_index.h"

namespace moat::engine {

namespace {

void require_scores(const char* op, const Tensor& x) {
  require(x.defined() && x.rank() == 2 && (x.dtype() == Dtype::f32 || x.dtype() == Dtype::f64),
          [&] {
            return text(op, ": scores must be float32 or float64 [tokens, experts], got ",
                        x.defined() ? text(name_of(x.dtype()), " ", x.shape().str()) : "nothing");
          });
}

void require_experts(const char* op, const Tensor& experts, int64_t num_experts) {
  require(experts.defined() && experts.dtype() == Dtype::i32 && experts.rank() == 1, [&] {
    return text(
        op, ": experts must be int32 with one axis, got ",
        experts.defined() ? text(name_of(experts.dtype()), " ", experts.shape().str()) : "nothing");
  });
  const std::vector<int32_t> values = experts.to_vector<int32_t>();
  for (size_t row = 0; row < values.size(); ++row)
    require(values[row] >= 0 && values[row] < num_experts, [&] {
      return text(op, ": experts must be in [0, ", num_experts, "), got ", values[row], " in row ",
                  row);
    });
}

}  // namespace

Gate topk_gate(const Tensor& logits, int k, GateForm form, const Tensor& bias) {
  require_scores("topk_gate", logits);
  require(k >= 1 && k <= logits.dim(1), [&] {
    return text("topk_gate: k must be in [1, ", logits.dim(1), "], the number of experts, got ", k);
  });
  require(!bias.defined() || form == GateForm::sigmoid_topk,
          "topk_gate: only the form sigmoid_topk takes a bias");
  require(
      !bias.defined() || (bias.shape() == Shape{logits.dim(1)} && bias.dtype() == logits.dtype()),
      [&] {
        return text("topk_gate: bias must be ", name_of(logits.dtype()), " [", logits.dim(1),
                    "], got ", name_of(bias.dtype()), " ", bias.shape().str());
      });
  const Tensor x = logits.contiguous(), b = bias.defined() ? bias.contiguous() : bias;
  const int64_t tokens = x.dim(0);
  Gate gate{.weights = Tensor::empty({tokens, k}, x.dtype(), x.device()),
            .experts = Tensor::empty({tokens, k}, Dtype::i32, x.device()),
            .log_sum_exp = Tensor::empty({tokens}, x.dtype(), x.device()),
            .margin = Tensor::empty({tokens}, x.dtype(), x.device())};
  const kernels::TopkGate args{.logits = x.data(),
                               .bias = b.data(),
                               .weights = gate.weights.data(),
                               .experts = gate.experts.data_as<int32_t>(),
                               .log_sum_exp = gate.log_sum_exp.data(),
                               .margin = gate.margin.data(),
                               .tokens = to_int(tokens),
                               .num_experts = to_int(x.dim(1)),
                               .k = k,
                               .form = form,
                               .dtype = x.dtype()};
  dispatch(
      x.device(), [&](auto on) { return kernels::topk_gate_workspace(on, args); },
      [&](auto on) { return kernels::topk_gate(on, args); });
  const auto vjp = [x, weights = gate.weights, experts = gate.experts, form](
                       const Tensors& d_outputs, const Needs&) -> Tensors {
    const Tensor d_weights = d_outputs[0].contiguous(),
                 d_x = Tensor::empty(x.shape(), x.dtype(), x.device());
    const kernels::TopkGateGrad grad{.logits = x.data(),
                                     .experts = experts.data_as<int32_t>(),
                                     .weights = weights.data(),
                                     .d_weights = d_weights.data(),
                                     .d_logits = d_x.data(),
                                     .tokens = to_int(x.dim(0)),
                                     .num_experts = to_int(x.dim(1)),
                                     .k = to_int(weights.dim(1)),
                                     .form = form,
                                     .dtype = x.dtype()};
    dispatch(x.device(), [&](auto on) { return kernels::topk_gate_grad(on, grad); });
    return {d_x};
  };
  gate.weights = recorded("topk_gate", {logits}, gate.weights, vjp);
  return gate;
}

Tensor straight_through_gate(const Tensor& scores, const Tensor& experts, StraightThrough form) {
  require_scores("straight_through_gate", scores);
  require_experts("straight_through_gate", experts, scores.dim(1));
  require(experts.dim(0) == scores.dim(0), [&] {
    return text("straight_through_gate: one expert per token, got ", experts.dim(0), " for scores ",
                scores.shape().str());
  });
  const Tensor x = scores.contiguous(), chosen = experts.contiguous();
  const Tensor ones = Tensor::full({x.dim(0)}, 1, x.dtype(), x.device());
  return recorded(
      "straight_through_gate", {scores}, ones,
      [x, chosen, form](const Tensors& d_outputs, const Needs&) -> Tensors {
        const Tensor d_gate = d_outputs[0].contiguous(),
                     d_x = Tensor::empty(x.shape(), x.dtype(), x.device());
        const kernels::StraightThroughGateGrad args{.scores = x.data(),
                                                    .experts = chosen.data_as<int32_t>(),
                                                    .d_gate = d_gate.data(),
                                                    .d_scores = d_x.data(),
                                                    .tokens = to_int(x.dim(0)),
                                                    .num_experts = to_int(x.dim(1)),
                                                    .form = form,
                                                    .dtype = x.dtype()};
        dispatch(x.device(),
                 [&](auto on) { return kernels::straight_through_gate_grad(on, args); });
        return {d_x};
      });
}

Segments sort_by_expert(const Tensor& experts, int num_experts) {
  require(num_experts >= 1,
          [&] { return text("sort_by_expert: needs an expert or more, got ", num_experts); });
  require_experts("sort_by_expert", experts, num_experts);
  const Tensor chosen = experts.contiguous();
  const Tensor offsets = Tensor::empty({num_experts + 1}, Dtype::i32, chosen.device());
  Segments segments{.order = Tensor::empty(chosen.shape(), Dtype::i32, chosen.device()),
                    .inverse = Tensor::empty(chosen.shape(), Dtype::i32, chosen.device()),
                    .offsets = {}};
  const kernels::RoutingIndex args{.experts = chosen.data_as<int32_t>(),
                                   .priority = nullptr,
                                   .offsets = offsets.data_as<int32_t>(),
                                   .row_token = segments.order.data_as<int32_t>(),
                                   .slot_of = segments.inverse.data_as<int32_t>(),
                                   .tokens = to_int(chosen.dim(0)),
                                   .k = 1,
                                   .num_experts = num_experts,
                                   .capacity = 0,
                                   .priority_dtype = Dtype::f32};
  dispatch(
      chosen.device(), [&](auto on) { return kernels::routing_index_workspace(on, args); },
      [&](auto on) { return kernels::routing_index(on, args); });
  segments.offsets = offsets.to_vector<int32_t>();
  return segments;
}

}  // namespace moat::engine
