#include "engine/ops/moe.h"

#include "engine/dispatch.h"
#include "engine/ops/operand.h"
#include "engine/ops/routing.h"
#include "engine/tape.h"

namespace moat::engine {

namespace {

// Scores in float32, float64 or one other format.
void require_scores(const char* op, const Tensor& x, Dtype other = Dtype::f32) {
  require(x.defined() && x.rank() == 2 &&
              (x.dtype() == Dtype::f32 || x.dtype() == Dtype::f64 || x.dtype() == other),
          [&] {
            return text(op, ": scores must be float32 or float64 [tokens, experts], got ",
                        described(x));
          });
}

void require_gate_options(const Tensor& logits, int k, GateForm form, const GateOptions& options) {
  const Tensor& bias = options.bias;
  const GateNoise& noise = options.noise;
  const ExpertGroups& groups = options.groups;
  const int64_t n = logits.dim(1);
  require(k >= 1 && k <= n, [&] {
    return text("topk_gate: k must be in [1, ", n, "], the number of experts, got ", k);
  });
  require(!bias.defined() || form == GateForm::sigmoid_topk,
          "topk_gate: only the form sigmoid_topk takes a bias");
  const Dtype dtype = master_of(logits.dtype());
  require(!bias.defined() || (bias.shape() == Shape{n} && bias.dtype() == dtype), [&] {
    return text("topk_gate: bias must be ", name_of(dtype), " [", n, "], got ", described(bias));
  });
  require(noise.deviation >= 0, [&] {
    return text("topk_gate: the noise must not have a negative deviation, got ", noise.deviation);
  });
  require(!noise.samples.defined() || (noise.samples.shape() == Shape{logits.dim(0)} &&
                                       noise.samples.dtype() == Dtype::i32),
          "topk_gate: the samples of the noise must be int32 [tokens]");
  require(
      groups.count >= 1 && n % groups.count == 0 && groups.kept >= 1 && groups.kept <= groups.count,
      [&] {
        return text("topk_gate: cannot keep ", groups.kept, " of ", groups.count,
                    " equal groups of ", n, " experts");
      });
  require(k <= n / groups.count * groups.kept, [&] {
    return text("topk_gate: k = ", k, " experts do not fit into ", groups.kept, " groups of ",
                n / groups.count);
  });
}

}  // namespace

Gate topk_gate(const Tensor& logits, int k, GateForm form, const GateOptions& options) {
  require_scores("topk_gate", logits, Dtype::bf16);
  require_gate_options(logits, k, form, options);
  const GateNoise& noise = options.noise;
  const Tensor x = logits.contiguous(), bias = options.bias.contiguous(),
               samples = noise.samples.contiguous();
  const int64_t tokens = x.dim(0);
  const Dtype dtype = master_of(x.dtype());
  Gate gate{
      .weights = Tensor::empty({tokens, k}, dtype, x.device()),
      .experts = Tensor::empty({tokens, k}, Dtype::i32, x.device()),
      .log_sum_exp = Tensor::empty({tokens}, dtype, x.device()),
      .margin = Tensor::empty({tokens}, dtype, x.device()),
      .noisy_logits = noise.deviation == 0 ? Tensor{} : Tensor::empty(x.shape(), dtype, x.device()),
      .deviation = noise.deviation};
  const kernels::TopkGate args{
      .logits = x.data(),
      .bias = bias.data(),
      .weights = gate.weights.data(),
      .experts = gate.experts.data_as<int32_t>(),
      .log_sum_exp = gate.log_sum_exp.data(),
      .margin = gate.margin.data(),
      .tokens = to_int(tokens),
      .num_experts = to_int(x.dim(1)),
      .k = k,
      .form = form,
      .dtype = x.dtype(),
      .noise = {.deviation = noise.deviation,
                .samples = samples.defined() ? samples.data_as<int32_t>() : nullptr,
                .seed = noise.key.seed,
                .iteration = noise.key.iteration,
                .purpose = static_cast<uint32_t>(noise.key.purpose),
                .stream = noise.key.stream},
      .noisy_logits = gate.noisy_logits.data(),
      .groups = options.groups};
  dispatch(
      common_device({x, bias, samples}),
      [&](auto on) { return kernels::topk_gate_workspace(on, args); },
      [&](auto on) { return kernels::topk_gate(on, args); });
  const auto vjp = [x, weights = gate.weights, experts = gate.experts, noisy = gate.noisy_logits,
                    form](const Tensors& d_outputs, const Needs&) -> Tensors {
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
                                     .dtype = x.dtype(),
                                     .noisy_logits = noisy.data()};
    dispatch(x.device(), [&](auto on) { return kernels::topk_gate_grad(on, grad); });
    return {d_x};
  };
  gate.weights = recorded("topk_gate", {logits}, gate.weights, vjp);
  return gate;
}

Tensor straight_through_gate(const Tensor& scores, const Tensor& experts, StraightThrough form) {
  require_scores("straight_through_gate", scores);
  require_experts("straight_through_gate", experts, 1, scores.dim(1));
  require(experts.dim(0) == scores.dim(0), [&] {
    return text("straight_through_gate: one expert per token, got ", experts.dim(0), " for scores ",
                scores.shape().str());
  });
  const Tensor x = scores.contiguous(), chosen = experts.contiguous();
  const Tensor ones = Tensor::full({x.dim(0)}, 1, x.dtype(), common_device({x, chosen}));
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
  require_experts("sort_by_expert", experts, 1, num_experts);
  const Routing sorted =
      route_tokens(experts.contiguous().reshaped({experts.size(), 1}), num_experts);
  return {sorted.row_token, sorted.slot_of.reshaped({experts.size()}), sorted.offsets};
}

}  // namespace moat::engine
