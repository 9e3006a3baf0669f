#pragma once

// The gate's gradient: one read of the logits where the form needs them, one write of d_logits.

#include "kernels/gate/gate_score.h"
#include "kernels/gate/topk_gate/rows.cuh"

namespace moat::kernels {

// Logits is T, or the compute format for noisy logits.
template <class T, class Logits, int L, int N>
__global__ void __launch_bounds__(kGateThreads)
    gate_grad_kernel(TopkGateGrad a, const Logits* logits) {
  using C = compute_t<T>;
  const TokenLane<L> at(a.tokens);
  const int n = a.num_experts, k = a.k;
  const Logits* row = logits + at.token * n;
  T* d_logits = static_cast<T*>(a.d_logits) + at.token * n;
  const int32_t* experts = a.experts + at.token * k;
  const C *w = static_cast<const C*>(a.weights) + at.token * k,
          *d_w = static_cast<const C*>(a.d_weights) + at.token * k;

  C sum = 0;
  for (int j = at.lane; j < k; j += L) sum += w[j] * d_w[j];
  sum = warp_reduce<L>(sum, Sum());
  if (a.form == GateForm::softmax_topk) {
    C largest = -INFINITY, total = 0;
    read_row<L, N>(row, n, at.lane, [&](int, C x) { largest = max(largest, without_nan(x)); });
    largest = warp_reduce<L>(largest, Largest());
    read_row<L, N>(row, n, at.lane,
                   [&](int, C x) { total += relative_exp(without_nan(x), largest); });
    const C slope = -sum / warp_reduce<L>(total, Sum());
    if (at.writes)
      for (int i = at.lane * N; i < n; i += L * N) {
        const auto x = load<N>(row + i);
        Vector<T, N> d;
#pragma unroll
        for (int j = 0; j < N; ++j)
          d.values[j] = T(relative_exp(without_nan(C(x.values[j])), largest) * slope);
        store(d_logits + i, d);
      }
  } else if (at.writes) {
    write_row<L, N>(d_logits, n, at.lane, [](int) { return C(0); });
  }
  __syncwarp();  // the row stands before its chosen entries are written again
  if (!at.writes) return;
  for (int j = at.lane; j < k; j += L) {
    const int expert = experts[j];
    if (expert < 0 || expert >= n) continue;
    C d = w[j] * (d_w[j] - sum);
    if (a.form == GateForm::sigmoid_topk)  // 1 - w without cancellation
      d = d_w[j] * w[j] * portable_sigmoid(-without_nan(C(row[expert])));
    d_logits[expert] = T(d);
  }
}

}  // namespace moat::kernels
