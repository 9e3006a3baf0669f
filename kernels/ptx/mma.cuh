#pragma once

// Matrix products of a warp, and how their fragments come from shared memory. All 32 lanes take
// part. Lane l is row group g = l / 4 and column pair t = l % 4.

#include "kernels/ptx/arch.cuh"

namespace moat::kernels::ptx {

// Four 8 x 8 matrices of 16-bit elements from shared memory. Lane 8 i + j names row j of matrix i
// by its address (16 bytes, aligned to 16). Lane l gets of matrix i, in r[i], elements (g, 2t) and
// (g, 2t + 1), the first in the lower half. `_trans` gives (2t, g) and (2t + 1, g) instead.
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

// The reverse of ldmatrix_x4: r[i] of lane l goes to row g of matrix i, columns 2t and 2t + 1.
// sm_90.
__device__ __forceinline__ void stmatrix_x4(void* row, const uint32_t (&r)[4]) {
  if constexpr (kHasSm90)
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(
                     shared_address(row)),
                 "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
                 : "memory");
  else
    __trap();
}

// d[16, 8] += a[16, 16] b[16, 8] in float32. Fragments of lane l:
//   a[0], a[1], a[2], a[3]: rows g, g + 8, g, g + 8; columns 2t, 2t + 1, in a[2] and a[3] plus 8
//   b0, b1: column g; rows 2t, 2t + 1, in b1 plus 8
//   d[0], d[1]: row g, columns 2t and 2t + 1; d[2], d[3]: row g + 8
// a is what ldmatrix_x4 gives for its four 8 x 8 quarters (upper left, lower left, upper right,
// lower right), b what ldmatrix gives for the rows of b's transpose.
__device__ __forceinline__ void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4],
                                                  uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// d[16, 8] += a[16, 8] b[8, 8], operands rounded to tf32 (round_tf32). Fragments of lane l:
//   a[0] (g, t), a[1] (g + 8, t), a[2] (g, t + 4), a[3] (g + 8, t + 4); b0 (t, g), b1 (t + 4, g);
//   d as above. ldmatrix gives a, and b from its transpose: its pair of 16-bit elements is one
//   32-bit element.
__device__ __forceinline__ void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                                 uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

}  // namespace moat::kernels::ptx
