#pragma once

// The gate with a token's row in the registers of L neighbouring lanes, V experts each, for up to
// 1024 experts. Each lane sorts its slice once; then k + 1 times the largest head of the L sorted
// slices is found by butterflies and taken off.
//
// A key holds score and index in one integer, so that the larger key is the better expert, ties
// included. Selection runs on 32-bit keys, whose low bits are the index in place of the score's
// last digits. They are exact for bfloat16 logits; for others a tie of two shortened scores among
// the first k + 2 sends the warp through the same code with 64-bit keys.
//
// Bytes: a read of the logits, 8k + 8 written per token. Instructions of a warp for its 32 / L
// tokens: about 13 V for the softmax, V log2(V)^2 / 2 for sorting, 2 log2(L) + V + 3 for each of
// the k + 1 rounds: for few experts the bytes decide, from 128 on the instructions do.

#include <utility>

#include "kernels/gate/gate_score.h"
#include "kernels/gate/topk_gate/counts.cuh"
#include "kernels/gate/topk_gate/rows.cuh"

namespace moat::kernels {

// A float as an integer of the same order; -0 is 0.
__device__ inline uint32_t ordered_bits(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x + 0.f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// 0 stands for no expert.
template <class Key, int Experts>
struct GateKey {
  static constexpr uint32_t kIndices = Experts - 1;  // Experts is a power of two

  static __device__ Key make(float score, int expert) {
    const uint32_t bits = ordered_bits(score), index = kIndices - static_cast<uint32_t>(expert);
    if constexpr (sizeof(Key) == 8) return Key{bits} << 32 | index;
    return (bits & ~kIndices) | index;
  }
  static __device__ int expert(Key key) {
    return static_cast<int>(kIndices - (static_cast<uint32_t>(key) & kIndices));
  }
  static __device__ bool same_score(Key a, Key b) { return ((a ^ b) & ~Key{kIndices}) == 0; }
};

// Batcher's odd-even merge sort of keys[From … From + Count), largest first. Bounds are template
// parameters, so that every key stays in a register.
template <int I, int J, int V, class Key>
__device__ void put_in_order(Key (&keys)[V]) {
  const Key larger = max(keys[I], keys[J]), smaller = min(keys[I], keys[J]);
  keys[I] = larger;
  keys[J] = smaller;
}
template <int From, int Count, int Step, int V, class Key>
__device__ void merge_halves(Key (&keys)[V]) {
  if constexpr (2 * Step < Count) {
    merge_halves<From, Count, 2 * Step>(keys);
    merge_halves<From + Step, Count, 2 * Step>(keys);
    [&]<int... Pair>(std::integer_sequence<int, Pair...>) {
      (put_in_order<From + Step + 2 * Step * Pair, From + 2 * Step + 2 * Step * Pair>(keys), ...);
    }
    (std::make_integer_sequence<int, Count / (2 * Step) - 1>());
  } else {
    put_in_order<From, From + Step>(keys);
  }
}
template <int From, int Count, int V, class Key>
__device__ void sort_slice(Key (&keys)[V]) {
  if constexpr (Count > 1) {
    sort_slice<From, Count / 2>(keys);
    sort_slice<From + Count / 2, Count / 2>(keys);
    merge_halves<From, Count, 1>(keys);
  }
}

template <int Depth, int V, class Key>
__device__ void drop_head(Key (&keys)[V]) {
#pragma unroll
  for (int i = 0; i + 1 < V && i < Depth; ++i) keys[i] = keys[i + 1];
  if constexpr (V <= Depth) keys[V - 1] = 0;
}

// found(j, key) for the `count` best keys in order. Returns whether two neighbours of them have the
// same score as far as their keys tell.
template <int L, int Experts, class Key, int V, class Found>
__device__ bool select_best(Key (&keys)[V], int count, Found found) {
  constexpr int kShallow = 10;  // entries of a slice that the first 10 rounds can need
  sort_slice<0, V>(keys);
  bool has_ties = false;
  Key before = 0;
  for (int j = 0; j < count; ++j) {
    const Key best = warp_reduce<L>(keys[0], Largest());
    has_ties |= best != 0 && GateKey<Key, Experts>::same_score(before, best);
    before = best;
    found(j, best);
    if (keys[0] != best) continue;
    if (count <= kShallow)
      drop_head<kShallow>(keys);
    else
      drop_head<V>(keys);
  }
  return has_ties;
}

// Whether the lane's slice lies in a kept group, for groups of a power of two of whole slices;
// `margin` becomes what parts the last kept group from the next.
template <int L, int V>
__device__ bool in_kept_group(const ExpertGroups& groups, int num_experts, int lane,
                              const float (&scores)[V], float* margin) {
  const int width = num_experts / groups.count / V, mine = lane / width;
  float first = -INFINITY, second = -INFINITY;
#pragma unroll
  for (int v = 0; v < V; ++v) {
    second = max(second, min(first, scores[v]));
    first = max(first, scores[v]);
  }
  for (int step = 1; step < width; step *= 2) {
    const float other_first = __shfl_xor_sync(kAllLanes, first, step),
                other_second = __shfl_xor_sync(kAllLanes, second, step);
    second = max(max(second, other_second), min(first, other_first));
    first = max(first, other_first);
  }
  const float score = group_score(groups.score, first, second);
  int better = 0;
  for (int g = 0; g < groups.count; ++g) {
    const float other = __shfl_sync(kAllLanes, score, g * width, L);
    better += other > score || (other == score && g < mine);
  }
  const bool exists = mine < groups.count, kept = exists && better < groups.kept;
  const float last = warp_reduce<L>(kept ? score : INFINITY, Smallest()),
              next = warp_reduce<L>(exists && !kept ? score : -INFINITY, Largest());
  *margin = group_margin(groups.score, last, next);
  return kept;
}

// Slice of the token's row, N values at a time; -inf beyond its end.
template <int V, int N, class T>
__device__ void load_slice(const T* row, int n, int first, float (&x)[V]) {
#pragma unroll
  for (int v = 0; v < V; v += N) {
    Vector<T, N> values;
    if (first + v < n) values = load<N>(row + first + v);
#pragma unroll
    for (int j = 0; j < N; ++j)
      x[v + j] = first + v < n ? without_nan(float(values.values[j])) : -INFINITY;
  }
}

template <class T, int L, int V, int N>
__device__ void gate_token(const TopkGate& a, const TokenLane<L>& at) {
  constexpr int kExperts = L * V;
  const int n = a.num_experts, k = a.k, lane = at.lane, first = lane * V;
  const T* row = static_cast<const T*>(a.logits) + at.token * n;
  const float* bias = static_cast<const float*>(a.bias);
  int32_t* experts = a.experts + at.token * k;
  float scores[V];
  load_slice<V, N>(row, n, first, scores);

  float largest = scores[0];
#pragma unroll
  for (int v = 1; v < V; ++v) largest = max(largest, scores[v]);
  largest = warp_reduce<L>(largest, Largest());
  constexpr int kSums = V < 4 ? V : 4;
  float sums[kSums] = {};
#pragma unroll
  for (int v = 0; v < V; ++v)
    sums[v % kSums] += first + v < n ? relative_exp(scores[v], largest) : 0;
  float sum = 0;
#pragma unroll
  for (float s : sums) sum += s;
  sum = warp_reduce<L>(sum, Sum());

#pragma unroll
  for (int v = 0; v < V; ++v)
    if (first + v < n) scores[v] = selection_score(a.form, scores[v], bias ? bias[first + v] : 0.f);
  float margin = INFINITY;
  bool eligible = true;
  if (a.groups.kept < a.groups.count)
    eligible = in_kept_group<L>(a.groups, n, lane, scores, &margin);

  int mine = 0, top = 0, last = 0, next = -1;  // experts: of this lane's choice, best, k-th, …
  const auto select = [&]<class Key>(Key, int count) {
    Key keys[V];
#pragma unroll
    for (int v = 0; v < V; ++v)
      keys[v] = eligible && first + v < n ? GateKey<Key, kExperts>::make(scores[v], first + v) : 0;
    return select_best<L, kExperts>(keys, count, [&](int j, Key key) {
      const int expert = GateKey<Key, kExperts>::expert(key);
      if (j == 0) top = expert;
      if (j == k - 1) last = expert;
      if (j == k) next = key == 0 ? -1 : expert;
      if (j >= k || j % L != lane) return;
      mine = expert;
      if (at.writes) experts[j] = expert;
    });
  };
  const bool is_exact = sizeof(T) == 2 && a.form != GateForm::sigmoid_topk;
  const bool has_ties = select(uint32_t{}, k + (is_exact ? 1 : 2));
  if (!is_exact && __any_sync(kAllLanes, has_ties)) select(uint64_t{}, k + 1);

  const auto logit = [&](int expert) { return without_nan(float(row[expert])); };
  const auto choice = [&](int j) { return k <= L || !at.writes ? mine : experts[j]; };
  const bool normalised =
      a.form == GateForm::softmax_topk_renorm || a.form == GateForm::topk_softmax;
  float unit = largest, scale = sum;
  if (normalised) {
    unit = logit(top);
    scale = 0;
    for (int j = lane; j < k; j += L) scale += relative_exp(logit(choice(j)), unit);
    scale = warp_reduce<L>(scale, Sum());
  }
  if (!at.writes) return;
  float* weights = static_cast<float*>(a.weights) + at.token * k;
  for (int j = lane; j < k; j += L) {
    const float x = logit(choice(j));
    if (a.form == GateForm::sigmoid_topk)
      weights[j] = x == -INFINITY ? 0 : portable_sigmoid(x);
    else
      weights[j] = relative_exp(x, unit) / scale;
  }
  if (lane != 0) return;
  static_cast<float*>(a.log_sum_exp)[at.token] = log_of_sum(largest, sum);
  if (next >= 0) {
    const float low = selection_score(a.form, logit(last), bias ? bias[last] : 0.f),
                high = selection_score(a.form, logit(next), bias ? bias[next] : 0.f);
    margin = min(margin, low == high ? 0 : low - high);
  }
  static_cast<float*>(a.margin)[at.token] = margin;
}

// Threads of a block: kGateThreads or, where choices are counted, as many as a piece of the tokens
// needs, up to this. The more are possible, the fewer registers the compiler leaves to each:
// kLaneRegisters are those that the kernel needs, and no blocks are lost to more.
template <int L>
inline constexpr int kMostLaneThreads = L == 32 ? kGateThreads : 4096 / L;
template <int L, int V>
inline constexpr int kLaneRegisters = L > 8 && V == 16 ? 80 : 128;
template <int L, int V>
inline constexpr int kLaneBlocks = 65536 / (kMostLaneThreads<L> * kLaneRegisters<L, V>);

// A token per L threads.
template <class T, int L, int V, int N>
__global__ void __launch_bounds__(kMostLaneThreads<L>, kLaneBlocks<L, V>)
    gate_lanes_kernel(TopkGate a) {
  gate_token<T, L, V, N>(a, TokenLane<L>(a.tokens, blockDim.x));
  if (a.counts) count_choices(a, static_cast<int>(blockDim.x / L));
}

}  // namespace moat::kernels
