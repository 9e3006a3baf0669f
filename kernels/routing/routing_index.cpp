#include "kernels/routing/routing_index.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/index_range.h"

namespace moat::kernels {

namespace {

constexpr int32_t kKept = 0, kDropped = -1;

// Token indices by falling priority.
Status order_tokens(const RoutingIndex& a, int32_t* order) {
  for (int t = 0; t < a.tokens; ++t) order[t] = t;
  if (!a.priority) return Status::ok;
  return with_float(a.priority_dtype, [&]<class T>() {
    using C = compute_t<T>;
    const auto priority = [&](int32_t t) {
      const C p = C(static_cast<const T*>(a.priority)[t]);
      return std::isnan(p) ? -std::numeric_limits<C>::infinity() : p;
    };
    std::sort(order, order + a.tokens, [&](int32_t s, int32_t t) {
      const C p = priority(s), q = priority(t);
      return p != q ? p > q : s < t;
    });
    return Status::ok;
  });
}

// Marks every pair as kept or dropped in slot_of; used[e] counts what expert e keeps.
void place(const RoutingIndex& a, const int32_t* order, int32_t* used) {
  for (int choice = 0; choice < a.k; ++choice)
    for (int i = 0; i < a.tokens; ++i) {
      const int64_t pair = int64_t{order[i]} * a.k + choice;
      int32_t& count = used[a.experts[pair]];
      const bool fits = a.capacity == 0 || count < a.capacity;
      count += fits;
      a.slot_of[pair] = fits ? kKept : kDropped;
    }
}

}  // namespace

size_t routing_index_workspace(Cpu, const RoutingIndex& a) {
  return sizeof(int32_t) * (static_cast<size_t>(a.num_experts) + static_cast<size_t>(a.tokens));
}

Status routing_index(Cpu on, const RoutingIndex& a) {
  const int64_t pairs = int64_t{a.tokens} * a.k;
  if (a.tokens < 0 || a.k < 1 || a.num_experts < 1 || a.capacity < 0 ||
      pairs > std::numeric_limits<int32_t>::max())
    return Status::bad_args;
  if (!indices_in_range(a.experts, pairs, a.num_experts)) return Status::bad_args;
  if (on.workspace_bytes < routing_index_workspace(on, a)) return Status::small_workspace;
  auto* cursor = static_cast<int32_t*>(on.workspace);
  int32_t* order = cursor + a.num_experts;

  if (const Status status = order_tokens(a, order); status != Status::ok) return status;
  std::fill(cursor, cursor + a.num_experts, 0);
  place(a, order, cursor);
  a.offsets[0] = 0;
  for (int e = 0; e < a.num_experts; ++e) {
    a.offsets[e + 1] = a.offsets[e] + cursor[e];
    cursor[e] = a.offsets[e];
  }
  for (int64_t pair = 0; pair < pairs; ++pair) {
    if (a.slot_of[pair] == kDropped) continue;
    const int32_t row = cursor[a.experts[pair]]++;
    a.row_token[row] = static_cast<int32_t>(pair / a.k);
    a.slot_of[pair] = row;
  }
  std::fill(a.row_token + a.offsets[a.num_experts], a.row_token + pairs, -1);
  return Status::ok;
}

}  // namespace moat::kernels
