#include "kernels/gate/straight_through_gate.h"

#include "kernels/gate/topk_gate/rows.cuh"

namespace moat::kernels {

namespace {

// L lanes per token. Raw: a write of d_scores; softmax: a read of the scores besides, which the
// second and third pass find in the cache. Sums in float32 or better.
template <class T, int L, int N>
__global__ void __launch_bounds__(kGateThreads)
    straight_through_gate_grad_kernel(StraightThroughGateGrad a) {
  using C = compute_t<T>;
  const TokenLane<L> at(a.tokens);
  const int n = a.num_experts, expert = a.experts[at.token];
  const T* scores = static_cast<const T*>(a.scores) + at.token * n;
  T* d_scores = static_cast<T*>(a.d_scores) + at.token * n;
  const C d = C(static_cast<const T*>(a.d_gate)[at.token]);
  if (a.form == StraightThrough::raw) {
    if (at.writes)
      write_row<L, N>(d_scores, n, at.lane, [&](int i) { return i == expert ? d : C(0); });
    return;
  }
  C max = -INFINITY;
  read_row<L, N>(scores, n, at.lane, [&](int, C x) { max = Largest()(max, x); });
  max = warp_reduce<L>(max, Largest());
  int argmax = n;  // the maximum that `rest` leaves out, see row_softmax.h
  read_row<L, N>(scores, n, at.lane, [&](int i, C x) {
    if (x == max && i < argmax) argmax = i;
  });
  argmax = warp_reduce<L>(argmax, Smallest());
  C rest = at.lane == 0 ? max - max : C(0);
  read_row<L, N>(scores, n, at.lane, [&](int i, C x) {
    if (i != argmax) rest += exp(x - max);
  });
  rest = warp_reduce<L>(rest, Sum());
  if (!at.writes || expert < 0 || expert >= n) return;
  const C scale = 1 / (1 + rest), slope = d * exp(C(scores[expert]) - max) * scale;
  for (int i = at.lane * N; i < n; i += L * N) {
    auto values = load<N>(scores + i);
#pragma unroll
    for (int j = 0; j < N; ++j) {
      const C p = exp(C(values.values[j]) - max);
      C share = -p;
      if (i + j == expert) share = expert == argmax ? rest : 1 + rest - p;
      values.values[j] = T(slope * (share * scale));
    }
    store(d_scores + i, values);
  }
}

template <class T, int L>
Status run(Cuda on, const StraightThroughGateGrad& a) {
  return with_vector<T>(a.num_experts, {a.scores, a.d_scores}, [&]<int N>() {
    return launch(on, lanes_grid<L>(a.tokens), straight_through_gate_grad_kernel<T, L, N>, a);
  });
}

}  // namespace

Status straight_through_gate_grad(Cuda on, const StraightThroughGateGrad& a) {
  if (a.tokens < 0 || a.num_experts < 1) return Status::bad_args;
  return with_float(a.dtype, [&]<class T>() {
    return a.num_experts <= 64 ? run<T, 8>(on, a) : run<T, 32>(on, a);
  });
}

}  // namespace moat::kernels
