#pragma once

// Reductions and prefix sums in a fixed order over the lanes of a warp and the threads of a block,
// so that two runs give the same bits. Every lane takes part and every lane gets its result.

#include "kernels/cuda.cuh"

namespace moat::kernels {

inline constexpr int kWarp = 32;
inline constexpr unsigned kAllLanes = 0xffffffffu;

__device__ inline int lane_index() { return static_cast<int>(threadIdx.x) % kWarp; }

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

// The sum over the lanes up to and with this one.
template <class T>
__device__ T warp_prefix_sum(T value) {
#pragma unroll
  for (int step = 1; step < kWarp; step *= 2) {
    const T before = __shfl_up_sync(kAllLanes, value, step);
    if (lane_index() >= step) value += before;
  }
  return value;
}

// The sum over the threads of a one-dimensional block (whole warps) before this one. `scratch` is
// shared memory of a value per warp, as for block_reduce.
template <class T>
__device__ T block_sum_before(T value, T* scratch) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const T up_to_here = warp_prefix_sum(value);
  if (lane_index() == kWarp - 1) scratch[warp] = up_to_here;
  __syncthreads();
  T before = up_to_here - value;
  for (int w = 0; w < warp; ++w) before += scratch[w];
  __syncthreads();
  return before;
}

}  // namespace moat::kernels
