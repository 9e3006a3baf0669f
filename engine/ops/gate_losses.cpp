#include "engine/ops/gate_losses.h"

#include "engine/dispatch.h"
#include "engine/tape.h"

namespace moat::engine {

namespace {

// The arguments that the losses and their gradient share.
template <class Args>
Args common(const Tensor& x, const Gate& gate) {
  Args args{};
  args.logits = x.data();
  args.noisy_logits = gate.noisy_logits.data();
  args.experts = gate.experts.data_as<int32_t>();
  args.tokens = to_int(x.dim(0));
  args.num_experts = to_int(x.dim(1));
  args.k = to_int(gate.experts.dim(1));
  args.deviation = gate.deviation;
  args.dtype = x.dtype();
  return args;
}

}  // namespace

Tensor gate_losses(const Tensor& logits, const Gate& gate) {
  require(logits.defined() && logits.rank() == 2 && gate.experts.defined() &&
              gate.experts.dim(0) == logits.dim(0) &&
              gate.log_sum_exp.dtype() == master_of(logits.dtype()) &&
              (!gate.noisy_logits.defined() || gate.noisy_logits.shape() == logits.shape()),
          "gate_losses: the gate must come from topk_gate of these logits");
  const Tensor x = logits.contiguous();
  const int64_t n = x.dim(1);
  const Tensor losses = Tensor::empty({kernels::kGateLosses}, gate.log_sum_exp.dtype(), x.device()),
               sums = Tensor::empty({kernels::kExpertSums, n}, Dtype::f64, x.device());
  auto args = common<kernels::GateLosses>(x, gate);
  args.losses = losses.data();
  args.sums = sums.data_as<double>();
  dispatch(
      common_device({x, gate.experts, gate.noisy_logits}),
      [&](auto on) { return kernels::gate_losses_workspace(on, args); },
      [&](auto on) { return kernels::gate_losses(on, args); });
  return recorded("gate_losses", {logits}, losses,
                  [x, gate, sums](const Tensors& d_outputs, const Needs&) -> Tensors {
                    const Tensor d_losses = d_outputs[0].contiguous(),
                                 d_x = Tensor::empty(x.shape(), x.dtype(), x.device());
                    auto grad = common<kernels::GateLossesGrad>(x, gate);
                    grad.sums = sums.data_as<double>();
                    grad.d_losses = d_losses.data();
                    grad.d_logits = d_x.data();
                    dispatch(
                        x.device(),
                        [&](auto on) { return kernels::gate_losses_grad_workspace(on, grad); },
                        [&](auto on) { return kernels::gate_losses_grad(on, grad); });
                    return {d_x};
                  });
}

}  // namespace moat::engine
