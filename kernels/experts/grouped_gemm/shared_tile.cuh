#pragma once

#include "kernels/cuda/warp.cuh"
#include "kernels/ptx.cuh"

namespace moat::kernels::sm80 {

// Which extent of an operand's tile lies side by side in memory: the one that the product sums over
// (k), or the other one (m or n).
enum class Major { k, mn };

// Terms of the sums in a tile.
template <class T>
inline constexpr int kDepth = 64 / sizeof(T);

// A tile of an operand in shared memory: kExtent rows or columns of the result by kDepth terms of
// its sums, in rows of 16-byte chunks. A `step` is the 32 bytes of k that one mma takes: 16
// bfloat16 or 8 tf32 values.
//   k:  kExtent rows of 64 bytes, their chunks permuted,
//   mn: kDepth rows of kExtent values, with a gap behind each,
// so that neither copies nor the reads below meet in a bank.
template <class T, Major kMajor, int kExtent>
struct SharedTile {
  static constexpr Major kSide = kMajor;
  static constexpr int kChunk = 16 / sizeof(T);  // values of a chunk
  static constexpr int kRows = kMajor == Major::k ? kExtent : kDepth<T>;
  static constexpr int kChunks = kMajor == Major::k ? 4 : kExtent / kChunk;  // of a row
  static constexpr int kPitch = 16 * kChunks + (kMajor == Major::k ? 0 : sizeof(T) == 2 ? 16 : 32);

  // Where chunk `chunk` of row `row` lies.
  static __device__ int place(int row, int chunk) {
    return row * kPitch + (kMajor == Major::k ? chunk ^ (row / 2 % 4) : chunk) * 16;
  }
};
inline constexpr int kSteps = 2;
// Either tile, in whole cache lines.
template <int kExtent>
inline constexpr int kTileBytes = kExtent * 64 + 512;

// The mma fragment of 16 rows of the left operand from `row` on: lane 4g + t holds rows g and g +
// 8, at k = 2t, 2t + 1 and 8 beyond (bfloat16) or k = t and 4 beyond (tf32).
template <class T, Major kMajor, int kExtent>
__device__ void left_fragment(uint32_t (&a)[4], const unsigned char* tile, int row, int step) {
  using Tile = SharedTile<T, kMajor, kExtent>;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  if constexpr (kMajor == Major::k) {
    ptx::ldmatrix_x4(a, tile + Tile::place(row + lane % 16, 2 * step + lane / 16));
  } else if constexpr (sizeof(T) == 2) {
    ptx::ldmatrix_x4_trans(
        a, tile + Tile::place(16 * step + lane / 16 * 8 + lane % 8, row / 8 + lane / 8 % 2));
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int k = 8 * step + lane % 4 + i / 2 * 4, at = row + lane / 4 + i % 2 * 8;
      a[i] = *reinterpret_cast<const uint32_t*>(tile + Tile::place(k, at / 4) + at % 4 * 4);
    }
  }
}

// The fragments of 16 columns of the right operand from `column` on: b[0], b[1] for the first 8,
// b[2], b[3] for the others; lane 4g + t holds column g, k as above.
template <class T, Major kMajor, int kExtent>
__device__ void right_fragments(uint32_t (&b)[4], const unsigned char* tile, int column, int step) {
  using Tile = SharedTile<T, kMajor, kExtent>;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  if constexpr (kMajor == Major::k) {
    ptx::ldmatrix_x4(
        b, tile + Tile::place(column + lane / 16 * 8 + lane % 8, 2 * step + lane / 8 % 2));
  } else if constexpr (sizeof(T) == 2) {
    ptx::ldmatrix_x4_trans(
        b, tile + Tile::place(16 * step + lane / 8 % 2 * 8 + lane % 8, column / 8 + lane / 16));
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int k = 8 * step + lane % 4 + i % 2 * 4, at = column + lane / 4 + i / 2 * 8;
      b[i] = *reinterpret_cast<const uint32_t*>(tile + Tile::place(k, at / 4) + at % 4 * 4);
    }
  }
}

}  // namespace moat::kernels::sm80
