#pragma once

// How often each expert was chosen in a piece of the tokens. The block that owns the piece counts
// in shared memory: nothing is zeroed or added up in global memory, and sums of integers do not
// depend on their order.

#include "kernels/cuda.cuh"
#include "kernels/gate/topk_gate.h"
#include "kernels/gate/topk_gate/rows.cuh"

namespace moat::kernels {

// Shared memory of a block that counts.
inline size_t counts_bytes(const TopkGate& a) {
  return sizeof(int32_t) * static_cast<size_t>(a.num_experts);
}

// Writes the block's row of counts, of choices that stand in a.experts or that the block has just
// put there.
__device__ inline void count_choices(const TopkGate& a, int tokens_each) {
  int32_t* counts = shared_memory<int32_t>();
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  for (int i = thread; i < a.num_experts; i += threads) counts[i] = 0;
  __syncthreads();
  const int64_t first = int64_t{blockIdx.x} * tokens_each * a.k,
                last = min(first + int64_t{tokens_each} * a.k, int64_t{a.tokens} * a.k);
  for (int64_t pair = first + thread; pair < last; pair += threads)
    atomicAdd(&counts[a.experts[pair]], 1);
  __syncthreads();
  int32_t* row = a.counts + int64_t{blockIdx.x} * a.num_experts;
  for (int i = thread; i < a.num_experts; i += threads) row[i] = counts[i];
}

// For choices that another kernel has made.
static __global__ void __launch_bounds__(kGateThreads)
    gate_counts_kernel(TopkGate a, int tokens_each) {
  count_choices(a, tokens_each);
}

}  // namespace moat::kernels
