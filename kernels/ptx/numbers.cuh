#pragma once

// Number formats, and functions of one number.

#include "kernels/ptx/arch.cuh"

namespace moat::kernels::ptx {

// Two floats, rounded to nearest even, in one register: `low` in the lower half (the lower
// address).
__device__ __forceinline__ uint32_t pack_bf16(float low, float high) {
  uint32_t packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}

// The float rounded to tf32 (10 bits of mantissa, nearest, ties away from zero), as its bits. They
// are those of a float again: the rest after rounding is x - __uint_as_float(round_tf32(x)). What
// cvt leaves in the 13 bits that a tf32 lacks is not specified, hence the mask.
__device__ __forceinline__ uint32_t round_tf32(float x) {
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return bits & 0xffffe000u;
}

// 2^x and 1 / x, at most 2 and 1 units in the last place off the rounded result; subnormal numbers
// are zeros, coming and going. (__expf and __fdividef keep them, which takes four instructions
// each.)
__device__ __forceinline__ float approximate_exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ float approximate_reciprocal(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

}  // namespace moat::kernels::ptx
