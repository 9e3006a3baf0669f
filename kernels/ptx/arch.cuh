#pragma once

// Which instructions the chip under compilation has, and shared addresses: for kernels/ptx/* alone.

#include "kernels/cuda.cuh"

namespace moat::kernels::ptx {

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
inline constexpr bool kHasSm90 = true;
#else
inline constexpr bool kHasSm90 = false;
#endif
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
inline constexpr bool kHasSm90a = true;
#else
inline constexpr bool kHasSm90a = false;
#endif

// The 32-bit address of shared memory that instructions take.
__device__ __forceinline__ uint32_t shared_address(const void* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

}  // namespace moat::kernels::ptx
