#include "kernels/gate/gate_losses.h"

#include <cmath>

#include "kernels/c_api/call.h"
#include "kernels/c_api/gate_options.h"

using namespace moat::kernels;
using namespace moat::kernels::c_api;

namespace {

// What the losses and their gradient read alike.
template <class Losses, class Args>
void read_gate(Call& call, const Args& a, int& experts, Losses& args) {
  args.dtype = call.real("logits", a.logits);
  int tokens = kUnknown, k = kUnknown;
  args.logits = call.in("logits", a.logits, args.dtype, {{"tokens", tokens}, {"experts", experts}});
  args.noisy_logits = call.in("noisy_logits", a.noisy_logits, wide(args.dtype),
                              {{"tokens", tokens}, {"experts", experts}}, Absent::allowed);
  args.experts = call.indices("experts", a.experts, {{"tokens", tokens}, {"k", k}});
  require_choices(k, experts);
  if (a.noisy_logits && !(std::isfinite(a.deviation) && a.deviation > 0))
    refuse("deviation must be finite and above 0 where noisy_logits is given, got " +
           std::to_string(a.deviation));
  args.tokens = tokens;
  args.num_experts = experts;
  args.k = k;
  args.deviation = a.deviation;
}

GateLosses read(Call& call, const moat_gate_losses_args& a) {
  GateLosses args{};
  int experts = kUnknown;
  read_gate(call, a, experts, args);
  args.losses = call.out("losses", a.losses, wide(args.dtype), {{"losses", kGateLosses}});
  args.sums = static_cast<double*>(
      call.out("sums", a.sums, Dtype::f64, {{"sums", kExpertSums}, {"experts", experts}}));
  return args;
}

GateLossesGrad read(Call& call, const moat_gate_losses_grad_args& a) {
  GateLossesGrad args{};
  int experts = kUnknown;
  read_gate(call, a, experts, args);
  args.sums = static_cast<const double*>(
      call.in("sums", a.sums, Dtype::f64, {{"sums", kExpertSums}, {"experts", experts}}));
  args.d_losses = call.in("d_losses", a.d_losses, wide(args.dtype), {{"losses", kGateLosses}});
  args.d_logits =
      call.out("d_logits", a.d_logits, args.dtype, {{"tokens", args.tokens}, {"experts", experts}});
  return args;
}

std::string experts_hold(int experts) {
  return "experts must be in [0, " + std::to_string(experts) + ")";
}

}  // namespace

moat_status moat_gate_losses_workspace(const moat_target* on, const moat_gate_losses_args* a,
                                       size_t* bytes) {
  return answer("moat_gate_losses_workspace", [&] {
    Call call(on, Wanted::workspace);
    const GateLosses args = read(call, given(a));
    call.tell([&](auto target) { return gate_losses_workspace(target, args); }, bytes);
  });
}

moat_status moat_gate_losses(const moat_target* on, const moat_gate_losses_args* a) {
  return answer("moat_gate_losses", [&] {
    Call call(on);
    const GateLosses args = read(call, given(a));
    call.takes_workspace([&](auto target) { return gate_losses_workspace(target, args); });
    call.run([&](auto target) { return gate_losses(target, args); },
             experts_hold(args.num_experts));
  });
}

moat_status moat_gate_losses_grad_workspace(const moat_target* on,
                                            const moat_gate_losses_grad_args* a, size_t* bytes) {
  return answer("moat_gate_losses_grad_workspace", [&] {
    Call call(on, Wanted::workspace);
    const GateLossesGrad args = read(call, given(a));
    call.tell([&](auto target) { return gate_losses_grad_workspace(target, args); }, bytes);
  });
}

moat_status moat_gate_losses_grad(const moat_target* on, const moat_gate_losses_grad_args* a) {
  return answer("moat_gate_losses_grad", [&] {
    Call call(on);
    const GateLossesGrad args = read(call, given(a));
    call.takes_workspace([&](auto target) { return gate_losses_grad_workspace(target, args); });
    call.run([&](auto target) { return gate_losses_grad(target, args); },
             experts_hold(args.num_experts));
  });
}
