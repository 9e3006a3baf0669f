#include "kernels/basic/finite.h"

#include <bit>

#include "kernels/cuda.cuh"
#include "kernels/cuda/stretch.cuh"
#include "kernels/cuda/warp.cuh"

namespace moat::kernels {

namespace {

constexpr int kThreads = 256;
constexpr int kEach = 8;  // values of a thread

__device__ bool is_wild(double x) {
  return (std::bit_cast<uint64_t>(x) << 1) >= 0xffe0000000000000u;
}
__device__ bool is_wild(float x) { return (std::bit_cast<uint32_t>(x) << 1) >= 0xff000000u; }
__device__ bool is_wild(Bf16 x) { return is_wild(static_cast<float>(x)); }

__global__ void nothing_found_kernel(Finite a) {
  a.found[0] = 0;
  a.found[1] = a.count;
}

// Each value is read once; only blocks with a find touch the result.
template <class T>
__global__ void __launch_bounds__(kThreads) finite_kernel(Finite a) {
  __shared__ int64_t scratch[kThreads / kWarp];
  const T* x = static_cast<const T*>(a.x);
  const int64_t block = int64_t{blockIdx.x} * kThreads * kEach;
  int64_t found = 0, first = a.count;
  for (int n = 0; n < kEach; ++n) {
    const int64_t i = block + n * kThreads + threadIdx.x;
    if (i >= a.count || !is_wild(x[i])) continue;
    ++found;
    first = i < first ? i : first;
  }
  found = block_reduce<kThreads>(found, Sum(), scratch);
  first = block_reduce<kThreads>(first, Smallest(), scratch);
  if (threadIdx.x > 0 || found == 0) return;
  atomicAdd(reinterpret_cast<unsigned long long*>(a.found), static_cast<unsigned long long>(found));
  atomicMin(reinterpret_cast<unsigned long long*>(a.found + 1),
            static_cast<unsigned long long>(first));
}

}  // namespace

Status finite(Cuda on, const Finite& a) {
  if (a.count < 0) return Status::bad_args;
  return with_float(a.dtype, [&]<class T>() {
    const Status status = launch(on, {dim3(1), dim3(1)}, nothing_found_kernel, a);
    return status != Status::ok ? status
                                : launch(on, {blocks_of(a.count, kThreads * kEach), dim3(kThreads)},
                                         finite_kernel<T>, a);
  });
}

}  // namespace moat::kernels
