#include "kernels/routing/routing_index.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <type_traits>
#include <utility>

#include "kernels/cuda.cuh"
#include "kernels/routing/routing_index/counting_sort.cuh"

// Without a capacity, one sort of the pairs by expert: 16 bytes a pair (experts read twice, slot_of
// and row_token written), which stay in L2; 12 where the gate has counted. With one, a sort in the
// order of placement comes first and marks who is dropped; with priorities that order is itself a
// radix sort of the tokens, a counting sort per byte of the priority.

namespace moat::kernels {

namespace {

using counting_sort::kNoBin;

constexpr int kDigitBits = 8;  // of a pass of the radix sort
constexpr int32_t kKept = 0, kDropped = counting_sort::kNowhere;

// The pairs in their own order, without those that were marked as dropped.
struct PairOrder {
  static constexpr bool kFromStartOfBin = false;
  const int32_t* experts;
  int32_t *slot_of, *row_token, *offsets;
  int pairs, k, num_experts;
  bool marked;

  __device__ int bin(int64_t pair) const {
    const auto expert = static_cast<unsigned>(experts[pair]);
    const bool kept = !marked || slot_of[pair] != kDropped;
    return kept && expert < static_cast<unsigned>(num_experts) ? static_cast<int>(expert) : kNoBin;
  }
  __device__ void start_bin(int bin, int32_t row) const { offsets[bin] = row; }
  __device__ void put(int64_t pair, int32_t row) const {
    slot_of[pair] = row;
    if (static_cast<unsigned>(row) < static_cast<unsigned>(pairs))  // also for wrong counts
      row_token[row] = static_cast<int32_t>(static_cast<unsigned>(pair) / static_cast<unsigned>(k));
  }
  __device__ void put_nothing(int64_t row) const { row_token[row] = -1; }
};

// The pairs in the order in which they are seated: all first choices, then all second ones, …,
// within a choice by the order of tokens. Seats are counted within an expert.
struct SeatOrder {
  static constexpr bool kFromStartOfBin = true;
  const int32_t *experts, *tokens_in_order;  // the second may be nullptr
  int32_t* slot_of;
  int tokens, k, num_experts, capacity;

  __device__ int64_t pair(int64_t seat) const {
    const auto n = static_cast<unsigned>(seat), choice = n / static_cast<unsigned>(tokens);
    const auto token = static_cast<int64_t>(n - choice * static_cast<unsigned>(tokens));
    return (tokens_in_order ? tokens_in_order[token] : token) * k + choice;
  }
  __device__ int bin(int64_t seat) const {
    const auto expert = static_cast<unsigned>(experts[pair(seat)]);
    return expert < static_cast<unsigned>(num_experts) ? static_cast<int>(expert) : kNoBin;
  }
  __device__ void start_bin(int, int32_t) const {}
  __device__ void put(int64_t seat, int32_t rank) const {
    slot_of[pair(seat)] = rank != kDropped && rank < capacity ? kKept : kDropped;
  }
  __device__ void put_nothing(int64_t) const {}
};

// Orders like falling priority when compared as an integer: -0 equals 0, NaN equals -inf.
template <class C>
constexpr auto falling_key(C priority) {
  using Bits = std::conditional_t<sizeof(C) == 8, uint64_t, uint32_t>;
  constexpr Bits kSign = Bits{1} << (8 * sizeof(C) - 1);
  if (priority != priority) priority = -std::numeric_limits<C>::infinity();
  const Bits bits = priority == 0 ? 0 : std::bit_cast<Bits>(priority);
  return bits & kSign ? bits : ~(bits | kSign);
}

// A pass of a radix sort of the tokens by falling priority, by one digit of the key.
template <class T>
struct PriorityDigit {
  static constexpr bool kFromStartOfBin = false;
  const T* priority;
  const int32_t* from;  // nullptr: the tokens in their own order
  int32_t* to;
  int shift;

  __device__ int32_t token(int64_t i) const { return from ? from[i] : static_cast<int32_t>(i); }
  __device__ int bin(int64_t i) const {
    const auto key = falling_key(static_cast<compute_t<T>>(priority[token(i)]));
    return static_cast<int>(key >> shift) & ((1 << kDigitBits) - 1);
  }
  __device__ void start_bin(int, int32_t) const {}
  __device__ void put(int64_t i, int32_t position) const { to[position] = token(i); }
  __device__ void put_nothing(int64_t) const {}
};

bool is_floating(Dtype dtype) {
  return dtype == Dtype::f64 || dtype == Dtype::f32 || dtype == Dtype::bf16;
}

bool is_limited(const RoutingIndex& a) {
  return a.capacity > 0 && a.capacity < int64_t{a.tokens} * a.k;
}

// The pairs, cut as a gate that counts them cuts its tokens.
counting_sort::Cut cut_by_tokens(const RoutingIndex& a) {
  const TokenPieces pieces = token_pieces(a.tokens);
  return {int64_t{a.tokens} * a.k, int64_t{pieces.each} * a.k, pieces.count};
}

// Scratch memory of the largest sort, in int32; the orders of tokens lie behind it. The same with
// counts and without.
size_t counts_of(const RoutingIndex& a) {
  const counting_sort::Cut cut = counting_sort::cut(int64_t{a.tokens} * a.k);
  if (!is_limited(a))
    return std::max(counting_sort::scratch_of(cut, a.num_experts),
                    counting_sort::scratch_of(cut_by_tokens(a), a.num_experts));
  return counting_sort::scratch_of(
      cut, a.priority ? std::max(a.num_experts, 1 << kDigitBits) : a.num_experts);
}

template <class Order>
Status sort(Cuda on, const Order& order, int64_t items, int bins) {
  return counting_sort::sort(on, order, counting_sort::cut(items), bins,
                             static_cast<int32_t*>(on.workspace));
}

// Sorts the tokens by falling priority; *order is where they are then.
template <class T>
Status order_tokens(Cuda on, const RoutingIndex& a, const int32_t** order) {
  int32_t* to = static_cast<int32_t*>(on.workspace) + counts_of(a);
  int32_t* other = to + a.tokens;
  *order = nullptr;
  for (size_t byte = sizeof(compute_t<T>) - sizeof(T); byte < sizeof(compute_t<T>); ++byte) {
    const PriorityDigit<T> digit{.priority = static_cast<const T*>(a.priority),
                                 .from = *order,
                                 .to = to,
                                 .shift = static_cast<int>(byte) * kDigitBits};
    if (const Status status = sort(on, digit, a.tokens, 1 << kDigitBits); status != Status::ok)
      return status;
    *order = to;
    std::swap(to, other);
  }
  return Status::ok;
}

// Marks every pair in slot_of as kept or dropped.
Status seat(Cuda on, const RoutingIndex& a) {
  const int32_t* order = nullptr;
  if (a.priority)
    if (const Status status =
            with_float(a.priority_dtype, [&]<class T>() { return order_tokens<T>(on, a, &order); });
        status != Status::ok)
      return status;
  return sort(on,
              SeatOrder{.experts = a.experts,
                        .tokens_in_order = order,
                        .slot_of = a.slot_of,
                        .tokens = a.tokens,
                        .k = a.k,
                        .num_experts = a.num_experts,
                        .capacity = a.capacity},
              int64_t{a.tokens} * a.k, a.num_experts);
}

}  // namespace

size_t routing_index_workspace(Cuda, const RoutingIndex& a) {
  if (a.tokens < 0 || a.k < 1 || a.num_experts < 1) return 0;
  const size_t orders = is_limited(a) && a.priority ? 2 * static_cast<size_t>(a.tokens) : 0;
  return sizeof(int32_t) * (counts_of(a) + orders);
}

Status routing_index(Cuda on, const RoutingIndex& a) {
  const int64_t pairs = int64_t{a.tokens} * a.k;
  if (a.tokens < 0 || a.k < 1 || a.num_experts < 1 || a.capacity < 0 ||
      pairs > std::numeric_limits<int32_t>::max())
    return Status::bad_args;
  if (a.num_experts > counting_sort::kMostBins || (a.priority && !is_floating(a.priority_dtype)))
    return Status::unsupported;
  if (on.workspace_bytes < routing_index_workspace(on, a)) return Status::small_workspace;
  const PairOrder order{.experts = a.experts,
                        .slot_of = a.slot_of,
                        .row_token = a.row_token,
                        .offsets = a.offsets,
                        .pairs = static_cast<int>(pairs),
                        .k = a.k,
                        .num_experts = a.num_experts,
                        .marked = is_limited(a)};
  if (is_limited(a))
    if (const Status status = seat(on, a); status != Status::ok) return status;
  if (is_limited(a) || !a.counts) return sort(on, order, pairs, a.num_experts);
  return counting_sort::sort(on, order, cut_by_tokens(a), a.num_experts,
                             static_cast<int32_t*>(on.workspace), a.counts);
}

}  // namespace moat::kernels
