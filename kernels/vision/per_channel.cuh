#pragma once

// Numbers per channel beside vectors of N neighbouring channels.

#include "kernels/cuda/vector.cuh"

namespace moat::kernels {

// to = from[0 .. N); with N > 1 the address is a multiple of 16 bytes.
template <int N, class C>
__device__ void load_channels(const C* from, C (&to)[N]) {
  constexpr int kWidth = N == 1 ? 1 : kVectorSize<C>;
#pragma unroll
  for (int n = 0; n < N; n += kWidth) {
    const Vector<C, kWidth> v = load<kWidth>(from + n);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) to[n + i] = v.values[i];
  }
}

template <class C>
__device__ C value_or(const void* values, int channel, C otherwise) {
  return values ? static_cast<const C*>(values)[channel] : otherwise;
}

}  // namespace moat::kernels
