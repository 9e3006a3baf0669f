#pragma once

// Reductions in a fixed order over the lanes of a warp and the threads of a block, so that two runs
// give the same bits. Every lane takes part and every lane gets the result.

#include "kernels/cuda.cuh"

namespace moat::kernels {

inline constexpr int kWarp = 32;
inline constexpr unsigned kAllLanes = 0xffffffffu;

struct Sum {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct Largest {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a < b ? b : a;
  }
};
struct Smallest {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return b < a ? b : a;
  }
};

// op over groups of `Width` neighbouring lanes (a power of two), by butterflies.
template <int Width = kWarp, class T, class Op>
__device__ T warp_reduce(T value, Op op) {
#pragma unroll
  for (int step = Width / 2; step > 0; step /= 2)
    value = op(value, __shfl_xor_sync(kAllLanes, value, step));
  return value;
}

// op over a block of Threads (a multiple of 32). `scratch` is shared memory of Threads / 32 values
// that nothing else uses meanwhile; it is free again when the call returns.
template <int Threads, class T, class Op>
__device__ T block_reduce(T value, Op op, T* scratch) {
  static_assert(Threads % kWarp == 0 && Threads <= 1024);
  value = warp_reduce(value, op);
  if (threadIdx.x % kWarp == 0) scratch[threadIdx.x / kWarp] = value;
  __syncthreads();
  T result = scratch[0];
  for (int warp = 1; warp < Threads / kWarp; ++warp) result = op(result, scratch[warp]);
  __syncthreads();
  return result;
}

}  // namespace moat::kernels
