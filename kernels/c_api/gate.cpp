#include "kernels/c_api/gate_options.h"

#include <cmath>

#include "kernels/c_api/call.h"
#include "kernels/gate/topk_gate.h"

namespace moat::kernels::c_api {

static_assert(MOAT_SIGMOID_TOPK == static_cast<int>(GateForm::sigmoid_topk));
static_assert(MOAT_LARGEST == static_cast<int>(GroupScore::largest));

void require_choices(int k, int experts) {
  if (k < 1 || k > experts)
    refuse("k must be in [1, experts = " + std::to_string(experts) + "], got " + std::to_string(k));
}

const void* read_gate_bias(Call& call, const char* name, const DLTensor* bias, Dtype dtype,
                           int experts, GateForm form) {
  if (bias && form != GateForm::sigmoid_topk)
    refuse(std::string(name) + " must be NULL unless form is MOAT_SIGMOID_TOPK");
  return call.in(name, bias, dtype, {{"experts", int64_t{experts}}}, Absent::allowed);
}

GateNoise read_noise(Call& call, const moat_gate_noise& a, int tokens) {
  if (!(std::isfinite(a.deviation) && a.deviation >= 0))
    refuse("noise.deviation must be finite and at least 0, got " + std::to_string(a.deviation));
  if (a.deviation == 0) return {};
  if (a.purpose >= 1u << 8 || a.stream >= 1u << 24)
    refuse("noise.purpose must be below 2^8 and noise.stream below 2^24, got " +
           std::to_string(a.purpose) + " and " + std::to_string(a.stream));
  return {.deviation = a.deviation,
          .samples = call.indices("noise.samples", a.samples, {{"tokens", int64_t{tokens}}},
                                  Absent::allowed),
          .seed = a.seed,
          .iteration = a.iteration,
          .purpose = a.purpose,
          .stream = a.stream};
}

ExpertGroups read_groups(const moat_expert_groups& a, int experts, int k) {
  if (a.count == 0 && a.kept == 0) return {};
  const ExpertGroups groups{a.count, a.kept, option<GroupScore>("groups.score", a.score, 2)};
  const std::string got = ", got " + std::to_string(a.count) + " and " + std::to_string(a.kept);
  if (a.count < 1 || a.kept < 1 || a.kept > a.count || experts % a.count != 0)
    refuse("groups.count must divide experts = " + std::to_string(experts) +
           ", and groups.kept be in [1, groups.count]" + got);
  if (k > experts / a.count * a.kept)
    refuse("k = " + std::to_string(k) + " experts must fit into the kept groups" + got);
  return groups;
}

}  // namespace moat::kernels::c_api

using namespace moat::kernels;
using namespace moat::kernels::c_api;

namespace {

TopkGate read(Call& call, const moat_topk_gate_args& a) {
  TopkGate args{};
  args.dtype = call.real("logits", a.logits);
  args.form = option<GateForm>("form", a.form, 4);
  const Dtype compute = wide(args.dtype);
  int tokens = kUnknown, experts = kUnknown, k = kUnknown;
  args.logits = call.in("logits", a.logits, args.dtype, {{"tokens", tokens}, {"experts", experts}});
  args.bias = read_gate_bias(call, "bias", a.bias, compute, experts, args.form);
  args.experts = call.indices_out("experts", a.experts, {{"tokens", tokens}, {"k", k}});
  require_choices(k, experts);
  args.weights = call.out("weights", a.weights, compute, {{"tokens", tokens}, {"k", k}});
  args.log_sum_exp = call.out("log_sum_exp", a.log_sum_exp, compute, {{"tokens", tokens}});
  args.margin = call.out("margin", a.margin, compute, {{"tokens", tokens}});
  args.noisy_logits = call.out("noisy_logits", a.noisy_logits, compute,
                               {{"tokens", tokens}, {"experts", experts}}, Absent::allowed);
  args.noise = read_noise(call, a.noise, tokens);
  args.groups = read_groups(a.groups, experts, k);
  args.tokens = tokens;
  args.num_experts = experts;
  args.k = k;
  return args;
}

TopkGateGrad read(Call& call, const moat_topk_gate_grad_args& a) {
  TopkGateGrad args{};
  args.dtype = call.real("logits", a.logits);
  args.form = option<GateForm>("form", a.form, 4);
  const Dtype compute = wide(args.dtype);
  int tokens = kUnknown, experts = kUnknown, k = kUnknown;
  args.logits = call.in("logits", a.logits, args.dtype, {{"tokens", tokens}, {"experts", experts}});
  args.noisy_logits = call.in("noisy_logits", a.noisy_logits, compute,
                              {{"tokens", tokens}, {"experts", experts}}, Absent::allowed);
  args.experts = call.indices("experts", a.experts, {{"tokens", tokens}, {"k", k}});
  require_choices(k, experts);
  args.weights = call.in("weights", a.weights, compute, {{"tokens", tokens}, {"k", k}});
  args.d_weights = call.in("d_weights", a.d_weights, compute, {{"tokens", tokens}, {"k", k}});
  args.d_logits =
      call.out("d_logits", a.d_logits, args.dtype, {{"tokens", tokens}, {"experts", experts}});
  args.tokens = tokens;
  args.num_experts = experts;
  args.k = k;
  return args;
}

}  // namespace

moat_status moat_topk_gate_workspace(const moat_target* on, const moat_topk_gate_args* a,
                                     size_t* bytes) {
  return answer("moat_topk_gate_workspace", [&] {
    Call call(on, Wanted::workspace);
    const TopkGate args = read(call, given(a));
    call.tell([&](auto target) { return topk_gate_workspace(target, args); }, bytes);
  });
}

moat_status moat_topk_gate(const moat_target* on, const moat_topk_gate_args* a) {
  return answer("moat_topk_gate", [&] {
    Call call(on);
    const TopkGate args = read(call, given(a));
    call.takes_workspace([&](auto target) { return topk_gate_workspace(target, args); });
    call.run([&](auto target) { return topk_gate(target, args); });
  });
}

moat_status moat_topk_gate_grad(const moat_target* on, const moat_topk_gate_grad_args* a) {
  return answer("moat_topk_gate_grad", [&] {
    Call call(on);
    const TopkGateGrad args = read(call, given(a));
    call.run([&](auto target) { return topk_gate_grad(target, args); },
             "experts must be in [0, " + std::to_string(args.num_experts) + ")");
  });
}
