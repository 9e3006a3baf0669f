#pragma once

// What the host says of bf16 operands to Hopper's products.

#include <cstdint>

#include "kernels/cuda/tensor_map.h"

namespace moat::kernels::sm90 {

inline bool is_aligned(const void* p, uintptr_t bytes) {
  return reinterpret_cast<uintptr_t>(p) % bytes == 0;
}

// Rows of bf16, `stride` values apart, in boxes whose lines are 128 bytes.
inline TiledTensor bf16_matrix(const void* base, int64_t columns, int64_t rows, int64_t stride,
                               int box_columns, int box_rows) {
  return {.base = base,
          .rank = 2,
          .extents = {columns, rows, 1, 1},
          .strides = {0, stride * 2},
          .box = {box_columns, box_rows, 1, 1},
          .swizzle = Swizzle::b128};
}

}  // namespace moat::kernels::sm90
