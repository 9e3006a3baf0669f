#pragma once

// The registers of a warpgroup. sm_90a.

#include "kernels/ptx/arch.cuh"

namespace moat::kernels::ptx {

// Gives registers back, or takes them (waiting until there are some): afterwards each thread of the
// warpgroup has Registers, a multiple of 8 in 24 … 256. All its threads call it.
template <int Registers>
__device__ __forceinline__ void setmaxnreg_dec() {
  static_assert(Registers % 8 == 0 && Registers >= 24 && Registers <= 256);
  if constexpr (kHasSm90a)
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Registers));
  else
    __trap();
}
template <int Registers>
__device__ __forceinline__ void setmaxnreg_inc() {
  static_assert(Registers % 8 == 0 && Registers >= 24 && Registers <= 256);
  if constexpr (kHasSm90a)
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Registers));
  else
    __trap();
}

}  // namespace moat::kernels::ptx
