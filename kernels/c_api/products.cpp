#include "kernels/c_api/call.h"
#include "kernels/experts/expert_activation.h"
#include "kernels/experts/grouped_gemm.h"

using namespace moat::kernels;
using namespace moat::kernels::c_api;

namespace {

static_assert(MOAT_SWIGLU == static_cast<int>(ExpertActivation::swiglu));
static_assert(MOAT_TRANSPOSED == static_cast<int>(Transpose::yes));
static_assert(MOAT_TF32 == static_cast<int>(Precision::tf32));

constexpr const char* kRoutingHolds =
    "offsets must ascend from 0 to at most rows, and row_token of an expert's rows must be in "
    "[0, x_rows)";

// Tensors that a product and its weight gradient read alike.
template <class Product, class Args>
void read_rows(Call& call, const Args& a, int& rows, Product& args) {
  int x_rows = kUnknown, width = kUnknown, ends = kUnknown;
  args.row_token = call.indices("row_token", a.row_token, {{"rows", rows}}, Absent::allowed);
  args.x = call.in("x", a.x, args.dtype,
                   {{a.row_token ? "x_rows" : "rows", a.row_token ? x_rows : rows}, {"k", width}});
  args.offsets = call.indices("offsets", a.offsets, {{"experts + 1", ends}});
  if (ends < 2)
    refuse("offsets must be of at least one expert, got " + std::to_string(ends) + " extents");
  args.rows = rows;
  args.x_rows = a.row_token ? x_rows : rows;
  args.k = width;
  args.experts = ends - 1;
  args.precision = option<Precision>("precision", a.precision, 2);
}

// Columns of a product whose activation leaves `width` of them.
void require_even(const char* name, ExpertActivation activation, int width) {
  if (activation == ExpertActivation::swiglu && width % 2 != 0)
    refuse(std::string(name) + " must be even for MOAT_SWIGLU, got " + std::to_string(width));
}

GroupedGemm read(Call& call, const moat_grouped_gemm_args& a) {
  GroupedGemm args{};
  args.dtype = call.real("x", a.x);
  args.transpose_w = option<Transpose>("transpose_w", a.transpose_w, 2);
  args.activation = option<ExpertActivation>("activation", a.activation, 5);
  int rows = kUnknown, n = kUnknown;
  read_rows(call, a, rows, args);
  const Extent experts{"experts", int64_t{args.experts}}, depth{"k", int64_t{args.k}};
  if (args.transpose_w == Transpose::yes)
    args.w = call.in("w", a.w, args.dtype, {experts, {"n", n}, depth});
  else
    args.w = call.in("w", a.w, args.dtype, {experts, depth, {"n", n}});
  require_even("n", args.activation, n);
  args.bias = call.in("bias", a.bias, wide(args.dtype), {experts, {"n", n}}, Absent::allowed);
  const int64_t width = activated_width(args.activation, n);
  args.y = call.out(
      "y", a.y, args.dtype,
      {{"rows", rows}, {args.activation == ExpertActivation::swiglu ? "n / 2" : "n", width}});
  args.pre = call.out("pre", a.pre, args.dtype, {{"rows", rows}, {"n", n}}, Absent::allowed);
  args.n = n;
  return args;
}

GroupedGemmWeightGrad read(Call& call, const moat_grouped_gemm_weight_grad_args& a) {
  GroupedGemmWeightGrad args{};
  args.dtype = call.real("x", a.x);
  int rows = kUnknown, n = kUnknown;
  read_rows(call, a, rows, args);
  const Extent experts{"experts", int64_t{args.experts}}, depth{"k", int64_t{args.k}};
  args.d_y = call.in("d_y", a.d_y, args.dtype, {{"rows", rows}, {"n", n}});
  args.d_w = call.out("d_w", a.d_w, wide(args.dtype), {experts, {"n", n}, depth});
  args.d_bias =
      call.out("d_bias", a.d_bias, wide(args.dtype), {experts, {"n", n}}, Absent::allowed);
  args.n = n;
  return args;
}

ApplyExpertActivation read(Call& call, const moat_expert_activation_args& a) {
  ApplyExpertActivation args{};
  args.dtype = call.real("pre", a.pre);
  args.activation = option<ExpertActivation>("activation", a.activation, 5);
  int rows = kUnknown, width = kUnknown;
  args.pre = call.in("pre", a.pre, args.dtype, {{"rows", rows}, {"width", width}});
  require_even("width", args.activation, width);
  const int64_t activated = activated_width(args.activation, width);
  args.y = call.out("y", a.y, args.dtype, {{"rows", rows}, {"activated width", activated}});
  args.rows = rows;
  args.width = width;
  return args;
}

ExpertActivationGrad read(Call& call, const moat_expert_activation_grad_args& a) {
  ExpertActivationGrad args{};
  args.dtype = call.real("pre", a.pre);
  args.activation = option<ExpertActivation>("activation", a.activation, 5);
  int rows = kUnknown, width = kUnknown;
  args.pre = call.in("pre", a.pre, args.dtype, {{"rows", rows}, {"width", width}});
  require_even("width", args.activation, width);
  const int64_t activated = activated_width(args.activation, width);
  args.d_y = call.in("d_y", a.d_y, args.dtype, {{"rows", rows}, {"activated width", activated}});
  args.d_pre = call.out("d_pre", a.d_pre, args.dtype, {{"rows", rows}, {"width", width}});
  args.rows = rows;
  args.width = width;
  return args;
}

}  // namespace

moat_status moat_grouped_gemm_workspace(const moat_target* on, const moat_grouped_gemm_args* a,
                                        size_t* bytes) {
  return answer("moat_grouped_gemm_workspace", [&] {
    Call call(on, Wanted::workspace);
    const GroupedGemm args = read(call, given(a));
    call.tell([&](auto target) { return grouped_gemm_workspace(target, args); }, bytes);
  });
}

moat_status moat_grouped_gemm(const moat_target* on, const moat_grouped_gemm_args* a) {
  return answer("moat_grouped_gemm", [&] {
    Call call(on);
    const GroupedGemm args = read(call, given(a));
    call.takes_workspace([&](auto target) { return grouped_gemm_workspace(target, args); });
    call.run([&](auto target) { return grouped_gemm(target, args); }, kRoutingHolds);
  });
}

moat_status moat_grouped_gemm_weight_grad_workspace(const moat_target* on,
                                                    const moat_grouped_gemm_weight_grad_args* a,
                                                    size_t* bytes) {
  return answer("moat_grouped_gemm_weight_grad_workspace", [&] {
    Call call(on, Wanted::workspace);
    const GroupedGemmWeightGrad args = read(call, given(a));
    call.tell([&](auto target) { return grouped_gemm_weight_grad_workspace(target, args); }, bytes);
  });
}

moat_status moat_grouped_gemm_weight_grad(const moat_target* on,
                                          const moat_grouped_gemm_weight_grad_args* a) {
  return answer("moat_grouped_gemm_weight_grad", [&] {
    Call call(on);
    const GroupedGemmWeightGrad args = read(call, given(a));
    call.takes_workspace(
        [&](auto target) { return grouped_gemm_weight_grad_workspace(target, args); });
    call.run([&](auto target) { return grouped_gemm_weight_grad(target, args); }, kRoutingHolds);
  });
}

moat_status moat_expert_activation(const moat_target* on, const moat_expert_activation_args* a) {
  return answer("moat_expert_activation", [&] {
    Call call(on);
    const ApplyExpertActivation args = read(call, given(a));
    call.run([&](auto target) { return expert_activation(target, args); });
  });
}

moat_status moat_expert_activation_grad(const moat_target* on,
                                        const moat_expert_activation_grad_args* a) {
  return answer("moat_expert_activation_grad", [&] {
    Call call(on);
    const ExpertActivationGrad args = read(call, given(a));
    call.run([&](auto target) { return expert_activation_grad(target, args); });
  });
}
