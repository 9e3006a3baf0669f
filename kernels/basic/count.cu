#include "kernels/basic/count.h"

#include <algorithm>

#include "kernels/cuda.cuh"
#include "kernels/cuda/stretch.cuh"
#include "kernels/cuda/warp.cuh"

// Every value is read once, by a block alone where they are few; what several blocks have counted
// meets in integer atomics, which give the same in any order.

namespace moat::kernels {

namespace {

constexpr int kThreads = 512;
constexpr int kEach = 16;  // values of a thread
constexpr int64_t kMostBlocks = 1024;
constexpr int kSharedBins = 8192;  // a block counts these in shared memory

unsigned blocks_for(int64_t count) {
  return static_cast<unsigned>(
      std::clamp<int64_t>((count + kThreads * kEach - 1) / (kThreads * kEach), 1, kMostBlocks));
}

template <class Body>
__device__ void for_each_of_grid(int64_t count, Body&& body) {
  const int64_t step = int64_t{gridDim.x} * kThreads;
#pragma unroll 4
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < count; i += step) body(i);
}

bool clear(Cuda on, void* memory, size_t bytes) {
  return bytes == 0 || cudaMemsetAsync(memory, 0, bytes, on.stream) == cudaSuccess;
}

__global__ void __launch_bounds__(kThreads) count_equal_kernel(CountEqual a) {
  __shared__ int64_t scratch[kThreads / kWarp];
  int64_t equal = 0;
  for_each_of_grid(a.count, [&](int64_t i) { equal += a.a[i] == a.b[i]; });
  equal = block_reduce<kThreads>(equal, Sum(), scratch);
  if (threadIdx.x != 0) return;
  if (gridDim.x == 1)
    *a.equal = equal;
  else
    atomicAdd(reinterpret_cast<unsigned long long*>(a.equal),
              static_cast<unsigned long long>(equal));
}

__global__ void __launch_bounds__(kThreads) bin_count_kernel(BinCount a) {
  int32_t* counts = shared_memory<int32_t>();
  for (int bin = static_cast<int>(threadIdx.x); bin < a.bins; bin += kThreads) counts[bin] = 0;
  __syncthreads();
  for_each_of_grid(a.count, [&](int64_t i) {
    const int32_t x = a.x[i];
    if (x >= 0 && x < a.bins) atomicAdd(&counts[x], 1);
  });
  __syncthreads();
  for (int bin = static_cast<int>(threadIdx.x); bin < a.bins; bin += kThreads) {
    if (gridDim.x == 1)
      a.counts[bin] = counts[bin];
    else if (counts[bin] != 0)
      atomicAdd(&a.counts[bin], counts[bin]);
  }
}

__global__ void __launch_bounds__(kThreads) many_bins_kernel(BinCount a) {
  for_each_of_grid(a.count, [&](int64_t i) {
    const int32_t x = a.x[i];
    if (x >= 0 && x < a.bins) atomicAdd(&a.counts[x], 1);
  });
}

}  // namespace

Status count_equal(Cuda on, const CountEqual& a) {
  if (a.count < 0) return Status::bad_args;
  const dim3 blocks(blocks_for(a.count));
  if (blocks.x > 1 && !clear(on, a.equal, sizeof(int64_t))) return Status::launch_failed;
  return launch(on, {blocks, dim3(kThreads)}, count_equal_kernel, a);
}

Status bin_count(Cuda on, const BinCount& a) {
  if (a.count < 0 || a.bins < 0) return Status::bad_args;
  if (a.bins == 0) return Status::ok;
  const dim3 blocks(blocks_for(a.count));
  const size_t bytes = static_cast<size_t>(a.bins) * sizeof(int32_t);
  const bool is_shared = a.bins <= kSharedBins;
  if ((blocks.x > 1 || !is_shared) && !clear(on, a.counts, bytes)) return Status::launch_failed;
  if (!is_shared) return launch(on, {blocks, dim3(kThreads)}, many_bins_kernel, a);
  return launch(on, {blocks, dim3(kThreads), bytes}, bin_count_kernel, a);
}

}  // namespace moat::kernels
