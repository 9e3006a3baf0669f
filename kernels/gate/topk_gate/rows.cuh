#pragma once

// A row of experts shared by the L lanes of a token, N neighbouring values at a time.

#include "kernels/cuda/vector.cuh"
#include "kernels/cuda/warp.cuh"

namespace moat::kernels {

inline constexpr int kGateThreads = 128;

// The token of this thread and its place among the token's L lanes. Lanes beyond the last token
// work on it again, so that whole warps shuffle, and write nothing.
template <int L>
struct TokenLane {
  int lane;
  bool writes;
  int64_t token;

  __device__ explicit TokenLane(int tokens, unsigned threads = kGateThreads)
      : lane(static_cast<int>(threadIdx.x) % L) {
    const unsigned wanted = blockIdx.x * (threads / L) + threadIdx.x / L;
    writes = wanted < static_cast<unsigned>(tokens);
    token = writes ? wanted : tokens - 1;
  }
};
template <int L>
Grid lanes_grid(int tokens) {
  constexpr int per_block = kGateThreads / L;
  return {dim3((static_cast<unsigned>(tokens) + per_block - 1) / per_block), dim3(kGateThreads)};
}

// f(i, row[i]) for the entries of this lane.
template <int L, int N, class T, class F>
__device__ void read_row(const T* row, int n, int lane, F f) {
  for (int i = lane * N; i < n; i += L * N) {
    const auto values = load<N>(row + i);
#pragma unroll
    for (int j = 0; j < N; ++j) f(i + j, values.values[j]);
  }
}
// row[i] = f(i) likewise.
template <int L, int N, class T, class F>
__device__ void write_row(T* row, int n, int lane, F f) {
  for (int i = lane * N; i < n; i += L * N) {
    Vector<T, N> values;
#pragma unroll
    for (int j = 0; j < N; ++j) values.values[j] = T(f(i + j));
    store(row + i, values);
  }
}

// exp(x - max) with equal infinities at a distance of 0.
template <class C>
__device__ C relative_exp(C x, C max) {
  return x == max ? C(1) : exp(x - max);
}
template <class C>
__device__ C log_of_sum(C max, C sum) {
  return max - max == 0 ? max + log(sum) : max;
}

}  // namespace moat::kernels
