#pragma once

// The GPU's instructions that CUDA C++ has no name for: one small function per instruction, the
// only place of inline PTX. Under g++ the same functions are emulated by tests/simt.
//
// Every function of kernels/ptx/ has its row in the hardware differential test
// (tests/cuda/instructions_test.cpp). `shared` pointers are generic pointers into shared memory.
// What needs Hopper (sm_90) traps below.

#ifdef __CUDACC__
#include "kernels/ptx/barrier.cuh"
#include "kernels/ptx/copy.cuh"
#include "kernels/ptx/mma.cuh"
#include "kernels/ptx/numbers.cuh"
#include "kernels/ptx/registers.cuh"
#include "kernels/ptx/tma.cuh"
#include "kernels/ptx/wgmma.cuh"
#else
#include <simt/ptx.h>
#endif

#include "kernels/cuda.cuh"
#include "kernels/ptx/descriptor.h"

namespace moat::kernels::ptx {

// No instruction: ordinary accesses to a product's accumulators stay on their side of it. After the
// wgmma_wait that ends the product.
template <int N>
__device__ inline void wgmma_results([[maybe_unused]] float (&d)[N]) {
#ifdef __CUDACC__
#pragma unroll
  for (float& x : d) asm volatile("" : "+f"(x)::"memory");
#endif
}

}  // namespace moat::kernels::ptx
