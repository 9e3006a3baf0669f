#pragma once

// The end of a weight gradient on Hopper whose sums were cut in splits: they are added in order.

#include "kernels/cuda.cuh"

namespace moat::kernels::sm90 {

struct SplitSums {
  const float* sums;  // [splits, count], 16-byte aligned, like `to`
  float* to;          // [count]
  int64_t count;      // a multiple of 4
  int splits;
};

// 4 (splits + 1) bytes per value.
template <int kSumThreads>
__global__ void __launch_bounds__(kSumThreads) add_splits_kernel(SplitSums a) {
  const int64_t i = (int64_t{blockIdx.x} * kSumThreads + threadIdx.x) * 4;
  if (i >= a.count) return;
  float4 sum = *reinterpret_cast<const float4*>(a.sums + i);
  for (int s = 1; s < a.splits; ++s) {
    const float4 next = *reinterpret_cast<const float4*>(a.sums + s * a.count + i);
    sum.x += next.x, sum.y += next.y, sum.z += next.z, sum.w += next.w;
  }
  *reinterpret_cast<float4*>(a.to + i) = sum;
}

inline Status add_splits(Cuda on, const SplitSums& a) {
  constexpr int kSumThreads = 256;
  const int64_t blocks = (a.count / 4 + kSumThreads - 1) / kSumThreads;
  if (blocks > INT32_MAX) return Status::unsupported;
  return launch(on, {dim3(static_cast<unsigned>(blocks)), dim3(kSumThreads)},
                add_splits_kernel<kSumThreads>, a);
}

}  // namespace moat::kernels::sm90
