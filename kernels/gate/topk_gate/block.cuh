#pragma once

// The gate with a block per token and the row in shared memory, for any number of experts and any
// groups: the experts are sorted whole. Serves float64, more than 1024 experts and groups that are
// no slices of lanes.cuh.

#include "kernels/gate/gate_score.h"
#include "kernels/gate/topk_gate/rows.cuh"

namespace moat::kernels {

inline constexpr int kBlockExperts = 4096;
inline constexpr int kLeftOut = 1 << 30;  // bit of an index that is not to be selected

// Shared memory of a block.
template <class C>
struct GateRow {
  C *scores, *groups;  // [experts], [groups]
  int *ranks, *order;  // [groups], [sorted]
  int sorted;          // the power of two that holds all experts

  __device__ GateRow(unsigned char* memory, int experts, int groups_, int sorted_)
      : scores(reinterpret_cast<C*>(memory)),
        groups(scores + experts),
        ranks(reinterpret_cast<int*>(groups + groups_)),
        order(ranks + groups_),
        sorted(sorted_) {}
};
inline int sorted_size(int experts) {
  int size = 1;
  while (size < experts) size *= 2;
  return size;
}
template <class C>
size_t gate_row_bytes(const TopkGate& a) {
  return sizeof(C) * (a.num_experts + a.groups.count) +
         sizeof(int) * (a.groups.count + sorted_size(a.num_experts));
}

// Writes each group's rank among all; `margin` becomes what parts the last kept from the next.
template <class C>
__device__ void rank_groups(const ExpertGroups& groups, int size, const GateRow<C>& row, C* scratch,
                            C* margin) {
  const int thread = static_cast<int>(threadIdx.x);
  for (int g = thread; g < groups.count; g += kGateThreads) {
    C first = -INFINITY, second = -INFINITY;
    for (int i = g * size; i < (g + 1) * size; ++i) {
      second = max(second, min(first, row.scores[i]));
      first = max(first, row.scores[i]);
    }
    row.groups[g] = group_score(groups.score, first, second);
  }
  __syncthreads();
  C last = INFINITY, next = -INFINITY;
  for (int g = thread; g < groups.count; g += kGateThreads) {
    const C score = row.groups[g];
    int better = 0;
    for (int other = 0; other < groups.count; ++other)
      better += row.groups[other] > score || (row.groups[other] == score && other < g);
    row.ranks[g] = better;
    if (better < groups.kept)
      last = min(last, score);
    else
      next = max(next, score);
  }
  last = block_reduce<kGateThreads>(last, Smallest(), scratch);
  next = block_reduce<kGateThreads>(next, Largest(), scratch);
  *margin = group_margin(groups.score, last, next);
}

// Bitonic sort of row.order: falling scores, ties by index, indices left out at the end.
template <class C>
__device__ void sort_order(const GateRow<C>& row) {
  const auto precedes = [&](int i, int j) {
    if ((i | j) & kLeftOut || row.scores[i] == row.scores[j]) return i < j;
    return row.scores[i] > row.scores[j];
  };
  for (int run = 2; run <= row.sorted; run *= 2)
    for (int step = run / 2; step > 0; step /= 2) {
      __syncthreads();
      for (int pair = static_cast<int>(threadIdx.x); pair < row.sorted / 2; pair += kGateThreads) {
        const int low = 2 * pair - (pair & (step - 1)), high = low + step;
        const int i = row.order[low], j = row.order[high];
        if (precedes(j, i) != ((low & run) == 0)) continue;
        row.order[low] = j;
        row.order[high] = i;
      }
    }
  __syncthreads();
}

template <class T>
__global__ void __launch_bounds__(kGateThreads) gate_block_kernel(TopkGate a, int sorted) {
  using C = compute_t<T>;
  __shared__ C scratch[kGateThreads / kWarp];
  const int n = a.num_experts, k = a.k, thread = static_cast<int>(threadIdx.x),
            size = n / a.groups.count;
  const int64_t token = blockIdx.x;
  const T* logits = static_cast<const T*>(a.logits) + token * n;
  const C* bias = static_cast<const C*>(a.bias);
  const GateRow<C> row(shared_memory<unsigned char>(), n, a.groups.count, sorted);
  const auto logit = [&](int expert) { return without_nan(C(logits[expert])); };

  C largest = -INFINITY, sum = 0;
  for (int i = thread; i < n; i += kGateThreads) {
    const C x = logit(i);
    largest = max(largest, x);
    row.scores[i] = selection_score(a.form, x, bias ? bias[i] : C(0));
  }
  largest = block_reduce<kGateThreads>(largest, Largest(), scratch);
  for (int i = thread; i < n; i += kGateThreads) sum += relative_exp(logit(i), largest);
  sum = block_reduce<kGateThreads>(sum, Sum(), scratch);

  C margin = INFINITY;
  const bool limited = a.groups.kept < a.groups.count;
  if (limited) rank_groups(a.groups, size, row, scratch, &margin);
  for (int i = thread; i < sorted; i += kGateThreads)
    row.order[i] = i < n && !(limited && row.ranks[i / size] >= a.groups.kept) ? i : i | kLeftOut;
  sort_order(row);

  const bool normalised =
      a.form == GateForm::softmax_topk_renorm || a.form == GateForm::topk_softmax;
  C unit = largest, scale = sum;
  if (normalised) {
    unit = logit(row.order[0]);
    scale = 0;
    for (int j = thread; j < k; j += kGateThreads) scale += relative_exp(logit(row.order[j]), unit);
    scale = block_reduce<kGateThreads>(scale, Sum(), scratch);
  }
  for (int j = thread; j < k; j += kGateThreads) {
    const int expert = row.order[j];
    const C x = logit(expert);
    C weight = 0;
    if (a.form != GateForm::sigmoid_topk)
      weight = relative_exp(x, unit) / scale;
    else if (x != -INFINITY)
      weight = portable_sigmoid(x);
    a.experts[token * k + j] = expert;
    static_cast<C*>(a.weights)[token * k + j] = weight;
  }
  if (thread != 0) return;
  if (k < size * a.groups.kept) {
    const C last = row.scores[row.order[k - 1]], next = row.scores[row.order[k]];
    margin = min(margin, last == next ? C(0) : last - next);
  }
  static_cast<C*>(a.log_sum_exp)[token] = log_of_sum(largest, sum);
  static_cast<C*>(a.margin)[token] = margin;
}

}  // namespace moat::kernels
