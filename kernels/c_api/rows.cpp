#include "kernels/c_api/call.h"
#include "kernels/routing/combine_rows.h"
#include "kernels/routing/dispatch_rows.h"
#include "kernels/routing/routing_index.h"

using namespace moat::kernels;
using namespace moat::kernels::c_api;

namespace {

RoutingIndex read(Call& call, const moat_routing_index_args& a) {
  RoutingIndex args{};
  args.capacity = a.capacity;
  int tokens = kUnknown, k = kUnknown, ends = kUnknown;
  args.experts = call.indices("experts", a.experts, {{"tokens", tokens}, {"k", k}});
  if (a.priority) {
    args.priority_dtype = call.real("priority", a.priority);
    args.priority = call.in("priority", a.priority, args.priority_dtype, {{"tokens", tokens}});
  }
  args.offsets = call.indices_out("offsets", a.offsets, {{"num_experts + 1", ends}});
  const int64_t pairs = int64_t{tokens} * k;
  args.row_token = call.indices_out("row_token", a.row_token, {{"tokens * k", pairs}});
  args.slot_of = call.indices_out("slot_of", a.slot_of, {{"tokens", tokens}, {"k", k}});
  if (k < 1) refuse("experts must have at least one choice per token, got k = 0");
  if (ends < 2)
    refuse("offsets must be of at least one expert, got " + std::to_string(ends) + " extents");
  if (a.capacity < 0)
    refuse("capacity must be at least 0 (unlimited), got " + std::to_string(a.capacity));
  args.tokens = tokens;
  args.k = k;
  args.num_experts = ends - 1;
  return args;
}

DispatchRows read(Call& call, const moat_dispatch_rows_args& a) {
  DispatchRows args{};
  args.dtype = call.real("x", a.x);
  int tokens = kUnknown, rows = kUnknown, width = kUnknown;
  args.x = call.in("x", a.x, args.dtype, {{"tokens", tokens}, {"width", width}});
  args.row_token = call.indices("row_token", a.row_token, {{"rows", rows}});
  args.y = call.out("y", a.y, args.dtype, {{"rows", rows}, {"width", width}});
  args.tokens = tokens;
  args.rows = rows;
  args.width = width;
  return args;
}

CombineRows read(Call& call, const moat_combine_rows_args& a) {
  CombineRows args{};
  args.dtype = call.real("rows", a.rows);
  int tokens = kUnknown, k = kUnknown, rows = kUnknown, width = kUnknown;
  args.rows = call.in("rows", a.rows, args.dtype, {{"rows", rows}, {"width", width}});
  args.slot_of = call.indices("slot_of", a.slot_of, {{"tokens", tokens}, {"k", k}});
  args.weights = call.in("weights", a.weights, wide(args.dtype), {{"tokens", tokens}, {"k", k}},
                         Absent::allowed);
  args.y = call.out("y", a.y, args.dtype, {{"tokens", tokens}, {"width", width}});
  args.tokens = tokens;
  args.k = k;
  args.row_count = rows;
  args.width = width;
  return args;
}

CombineRowsGrad read(Call& call, const moat_combine_rows_grad_args& a) {
  CombineRowsGrad args{};
  args.dtype = call.real("d_y", a.d_y);
  int tokens = kUnknown, k = kUnknown, rows = kUnknown, width = kUnknown;
  const Absent unread = a.d_weights ? Absent::refused : Absent::allowed;
  args.d_y = call.in("d_y", a.d_y, args.dtype, {{"tokens", tokens}, {"width", width}});
  args.slot_of = call.indices("slot_of", a.slot_of, {{"tokens", tokens}, {"k", k}});
  args.rows = call.in("rows", a.rows, args.dtype, {{"rows", rows}, {"width", width}}, unread);
  args.weights = call.in("weights", a.weights, wide(args.dtype), {{"tokens", tokens}, {"k", k}},
                         Absent::allowed);
  args.d_rows =
      call.out("d_rows", a.d_rows, args.dtype, {{"rows", rows}, {"width", width}}, Absent::allowed);
  args.d_weights = call.out("d_weights", a.d_weights, wide(args.dtype),
                            {{"tokens", tokens}, {"k", k}}, Absent::allowed);
  args.tokens = tokens;
  args.k = k;
  args.row_count = rows == kUnknown ? 0 : rows;
  args.width = width;
  return args;
}

// What is wrong when only the kernel can see it.
std::string beyond(const char* indices, const char* lowest, int bound) {
  return std::string(indices) + " must be in [" + lowest + ", " + std::to_string(bound) + ")";
}

}  // namespace

moat_status moat_routing_index_workspace(const moat_target* on, const moat_routing_index_args* a,
                                         size_t* bytes) {
  return answer("moat_routing_index_workspace", [&] {
    Call call(on, Wanted::workspace);
    const RoutingIndex args = read(call, given(a));
    call.tell([&](auto target) { return routing_index_workspace(target, args); }, bytes);
  });
}

moat_status moat_routing_index(const moat_target* on, const moat_routing_index_args* a) {
  return answer("moat_routing_index", [&] {
    Call call(on);
    const RoutingIndex args = read(call, given(a));
    call.takes_workspace([&](auto target) { return routing_index_workspace(target, args); });
    call.run([&](auto target) { return routing_index(target, args); },
             beyond("experts", "0", args.num_experts));
  });
}

moat_status moat_dispatch_rows(const moat_target* on, const moat_dispatch_rows_args* a) {
  return answer("moat_dispatch_rows", [&] {
    Call call(on);
    const DispatchRows args = read(call, given(a));
    call.run([&](auto target) { return dispatch_rows(target, args); },
             beyond("row_token", "-1", args.tokens));
  });
}

moat_status moat_combine_rows(const moat_target* on, const moat_combine_rows_args* a) {
  return answer("moat_combine_rows", [&] {
    Call call(on);
    const CombineRows args = read(call, given(a));
    call.run([&](auto target) { return combine_rows(target, args); },
             beyond("slot_of", "-1", args.row_count));
  });
}

moat_status moat_combine_rows_grad(const moat_target* on, const moat_combine_rows_grad_args* a) {
  return answer("moat_combine_rows_grad", [&] {
    Call call(on);
    const CombineRowsGrad args = read(call, given(a));
    if (!args.d_rows && !args.d_weights) return;
    call.run([&](auto target) { return combine_rows_grad(target, args); },
             beyond("slot_of", "-1", args.row_count));
  });
}
