#pragma once

// Rows cut into stretches, one per warp. Neighbouring warps take neighbouring stretches, so that a
// block works on memory that lies together, and a few long rows keep as many warps busy as many
// short ones.

#include <algorithm>

#include "kernels/cuda.cuh"
#include "kernels/cuda/warp.cuh"

namespace moat::kernels {

struct Stretch {
  int64_t row, first, last;  // elements [first, last) of the row
};

// Stretches of `each` elements in a row of `length`; a row without elements has one as well.
constexpr int64_t stretches_of(int64_t length, int64_t each) {
  return length > each ? (length + each - 1) / each : 1;
}

// This warp's stretch; its row may lie beyond the last one.
__device__ inline Stretch warp_stretch(int64_t length, int64_t each) {
  const int64_t warp = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / kWarp;
  const int64_t count = stretches_of(length, each);
  const int64_t row = warp / count, first = (warp - row * count) * each;
  return {row, first, first + each < length ? first + each : length};
}

// Blocks of `each` items for `items` of them.
inline dim3 blocks_of(int64_t items, int64_t each) {
  return dim3(static_cast<unsigned>((items + each - 1) / each));
}

// Blocks of `warps` warps for all stretches of `rows` rows.
inline Grid stretch_grid(int64_t rows, int64_t length, int64_t each, int warps) {
  return {blocks_of(rows * stretches_of(length, each), warps),
          dim3(static_cast<unsigned>(warps * kWarp))};
}

}  // namespace moat::kernels
