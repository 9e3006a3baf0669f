#include "kernels/c_api/call.h"
#include "kernels/c_api/gate_options.h"
#include "kernels/experts/moe_layer.h"

using namespace moat::kernels;
using namespace moat::kernels::c_api;

namespace {

struct Sizes {
  int tokens = kUnknown, experts = kUnknown, k = kUnknown;
  int width = kUnknown, inner = kUnknown, out_width = kUnknown;
};

// Number formats and options that both passes have.
template <class Layer, class Args>
void read_options(Layer& args, const Args& a) {
  args.form = option<GateForm>("form", a.form, 4);
  args.activation = option<ExpertActivation>("activation", a.activation, 5);
  args.precision = option<Precision>("precision", a.precision, 2);
}
Dtype gate_format(const Call& call, const DLTensor* logits, Dtype dtype) {
  const Dtype gate = call.real("logits", logits);
  if (wide(gate) != wide(dtype))
    refuse("logits must be float64 where the other tensors are, and only there");
  return gate;
}

int64_t hidden_of(ExpertActivation activation, int inner) {
  if (activation == ExpertActivation::swiglu && inner % 2 != 0)
    refuse("inner must be even for MOAT_SWIGLU, got " + std::to_string(inner));
  return activated_width(activation, inner);
}

template <class Layer>
void set_extents(Layer& args, const Sizes& n) {
  args.tokens = n.tokens;
  args.num_experts = n.experts;
  args.k = n.k;
  args.width = n.width;
  args.inner = n.inner;
  args.out_width = n.out_width;
}

MoeLayer read(Call& call, const moat_moe_layer_args& a) {
  MoeLayer args{};
  read_options(args, a);
  const Dtype dtype = args.dtype = call.real("x", a.x), compute = wide(dtype);
  const Dtype gate = args.gate_dtype = gate_format(call, a.logits, dtype);
  Sizes n;
  const Extent tokens{"tokens", n.tokens}, experts{"experts", n.experts}, k{"k", n.k};
  const Extent width{"width", n.width}, inner{"inner", n.inner}, wide_out{"out_width", n.out_width};
  args.x = call.in("x", a.x, dtype, {tokens, width});
  args.logits = call.in("logits", a.logits, gate, {tokens, experts});
  args.gate_bias = read_gate_bias(call, "gate_bias", a.gate_bias, compute, n.experts, args.form);
  args.priority = call.in("priority", a.priority, gate, {tokens}, Absent::allowed);
  args.w_in = call.in("w_in", a.w_in, dtype, {experts, inner, width});
  args.b_in = call.in("b_in", a.b_in, compute, {experts, inner}, Absent::allowed);
  const Extent hidden{"hidden", hidden_of(args.activation, n.inner)};
  args.w_out = call.in("w_out", a.w_out, dtype, {experts, wide_out, hidden});
  args.b_out = call.in("b_out", a.b_out, compute, {experts, wide_out}, Absent::allowed);

  args.experts = call.indices_out("experts", a.experts, {tokens, k});
  require_choices(n.k, n.experts);
  const Extent rows{"tokens * k", int64_t{n.tokens} * n.k};
  args.y = call.out("y", a.y, dtype, {tokens, wide_out});
  args.weights = call.out("weights", a.weights, compute, {tokens, k});
  args.log_sum_exp = call.out("log_sum_exp", a.log_sum_exp, compute, {tokens});
  args.margin = call.out("margin", a.margin, compute, {tokens});
  args.noisy_logits =
      call.out("noisy_logits", a.noisy_logits, compute, {tokens, experts}, Absent::allowed);
  args.offsets = call.indices_out("offsets", a.offsets, {{"experts + 1", int64_t{n.experts} + 1}});
  args.row_token = call.indices_out("row_token", a.row_token, {rows});
  args.slot_of = call.indices_out("slot_of", a.slot_of, {tokens, k});
  args.pre = call.out("pre", a.pre, dtype, {rows, inner}, Absent::allowed);
  args.rows = call.out("rows", a.rows, dtype, {rows, wide_out}, Absent::allowed);
  if (a.capacity < 0)
    refuse("capacity must be at least 0 (unlimited), got " + std::to_string(a.capacity));
  args.capacity = a.capacity;
  args.noise = read_noise(call, a.noise, n.tokens);
  args.groups = read_groups(a.groups, n.experts, n.k);
  set_extents(args, n);
  return args;
}

void require_results(const moat_moe_layer_grad_args& a) {
  if (a.d_b_in && !a.d_w_in) refuse("d_b_in comes with d_w_in, which must not be NULL then");
  if (a.d_b_out && !a.d_w_out) refuse("d_b_out comes with d_w_out, which must not be NULL then");
}

MoeLayerGrad read(Call& call, const moat_moe_layer_grad_args& a) {
  MoeLayerGrad args{};
  read_options(args, a);
  require_results(a);
  const Dtype dtype = args.dtype = call.real("d_y", a.d_y), compute = wide(dtype);
  const bool for_gate = a.d_logits, for_hidden = a.d_x || a.d_w_in,
             for_rows = for_hidden || a.d_w_out;
  // Inputs that no wanted result needs are not looked at.
  const auto in = [&](bool is_needed, const char* name, const DLTensor* tensor, Dtype format,
                      Extents shape) {
    return is_needed ? call.in(name, tensor, format, shape) : nullptr;
  };
  const auto indices = [&](bool is_needed, const char* name, const DLTensor* tensor,
                           Extents shape) {
    return is_needed ? call.indices(name, tensor, shape) : nullptr;
  };
  Sizes n;
  const Extent tokens{"tokens", n.tokens}, experts{"experts", n.experts}, k{"k", n.k};
  const Extent width{"width", n.width}, inner{"inner", n.inner}, wide_out{"out_width", n.out_width};
  args.d_y = call.in("d_y", a.d_y, dtype, {tokens, wide_out});
  args.slot_of = call.indices("slot_of", a.slot_of, {tokens, k});
  args.weights = call.in("weights", a.weights, compute, {tokens, k});
  const Extent rows{"tokens * k", int64_t{n.tokens} * n.k};
  int ends = kUnknown;
  args.offsets = call.indices("offsets", a.offsets, {{"experts + 1", ends}});
  n.experts = ends - 1;
  require_choices(n.k, n.experts);

  args.gate_dtype = for_gate ? gate_format(call, a.logits, dtype) : compute;
  args.logits = in(for_gate, "logits", a.logits, args.gate_dtype, {tokens, experts});
  args.noisy_logits =
      in(for_gate && a.noisy_logits, "noisy_logits", a.noisy_logits, compute, {tokens, experts});
  args.experts = indices(for_gate, "experts", a.experts, {tokens, k});
  args.rows = in(for_gate, "rows", a.rows, dtype, {rows, wide_out});
  args.pre = in(for_rows, "pre", a.pre, dtype, {rows, inner});
  args.w_in = in(a.d_x, "w_in", a.w_in, dtype, {experts, inner, width});
  args.x = in(a.d_w_in, "x", a.x, dtype, {tokens, width});
  args.row_token = indices(a.d_w_in, "row_token", a.row_token, {rows});
  if (n.inner == kUnknown) n.inner = 0;
  const Extent hidden{"hidden", hidden_of(args.activation, n.inner)};
  args.w_out = in(for_hidden, "w_out", a.w_out, dtype, {experts, wide_out, hidden});

  const auto out = [&](const char* name, DLTensor* tensor, Dtype format, Extents shape) {
    return call.out(name, tensor, format, shape, Absent::allowed);
  };
  args.d_x = out("d_x", a.d_x, dtype, {tokens, width});
  args.d_logits = out("d_logits", a.d_logits, args.gate_dtype, {tokens, experts});
  args.d_w_in = out("d_w_in", a.d_w_in, compute, {experts, inner, width});
  args.d_b_in = out("d_b_in", a.d_b_in, compute, {experts, inner});
  args.d_w_out = out("d_w_out", a.d_w_out, compute, {experts, wide_out, hidden});
  args.d_b_out = out("d_b_out", a.d_b_out, compute, {experts, wide_out});
  if (n.width == kUnknown) n.width = 0;
  set_extents(args, n);
  return args;
}

constexpr const char* kRoutingHolds =
    "experts, offsets, row_token and slot_of must be what moat_moe_layer wrote";

}  // namespace

moat_status moat_moe_layer_workspace(const moat_target* on, const moat_moe_layer_args* a,
                                     size_t* bytes) {
  return answer("moat_moe_layer_workspace", [&] {
    Call call(on, Wanted::workspace);
    const MoeLayer args = read(call, given(a));
    call.tell([&](auto target) { return moe_layer_workspace(target, args); }, bytes);
  });
}

moat_status moat_moe_layer(const moat_target* on, const moat_moe_layer_args* a) {
  return answer("moat_moe_layer", [&] {
    Call call(on);
    const MoeLayer args = read(call, given(a));
    call.takes_workspace([&](auto target) { return moe_layer_workspace(target, args); });
    call.run([&](auto target) { return moe_layer(target, args); });
  });
}

moat_status moat_moe_layer_grad_workspace(const moat_target* on, const moat_moe_layer_grad_args* a,
                                          size_t* bytes) {
  return answer("moat_moe_layer_grad_workspace", [&] {
    Call call(on, Wanted::workspace);
    const MoeLayerGrad args = read(call, given(a));
    call.tell([&](auto target) { return moe_layer_grad_workspace(target, args); }, bytes);
  });
}

moat_status moat_moe_layer_grad(const moat_target* on, const moat_moe_layer_grad_args* a) {
  return answer("moat_moe_layer_grad", [&] {
    Call call(on);
    const MoeLayerGrad args = read(call, given(a));
    call.takes_workspace([&](auto target) { return moe_layer_grad_workspace(target, args); });
    call.run([&](auto target) { return moe_layer_grad(target, args); }, kRoutingHolds);
  });
}
