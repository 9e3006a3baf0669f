#pragma once

#include "kernels/experts/grouped_gemm.h"
#include "kernels/experts/grouped_gemm/load_sm80.cuh"

namespace moat::kernels::sm80 {

// The product of two tiles by mma.sync, for any chip from sm_80 on. Blocks of k come through a ring
// of kStages stages that cp.async fills while the tensor cores work; four warps share the tile, two
// above each other and two side by side. Every sum runs over k in ascending order whatever the
// tile is, so that tiles of different sizes give the same bits.

inline constexpr int kStages = 4;

// Shared memory for the ring, and afterwards for the sums: rows of kExtent + kGap floats.
inline constexpr int kGap = 8;
template <int kExtent>
constexpr size_t ring_bytes() {
  constexpr size_t ring = size_t{kStages} * 2 * kTileBytes<kExtent>;
  static_assert(kExtent * (kExtent + kGap) * sizeof(float) <= ring);
  return ring;
}

// What lane 4g + t of a warp holds of its kExtent/2 by kExtent/2 part of the tile: value [i][j][v]
// is row 16i + g + 8(v / 2), column 8j + 2t + v % 2.
template <int kExtent>
struct Accumulators {
  static constexpr int kRowFragments = kExtent / 32, kColumnFragments = kExtent / 16;
  float values[kRowFragments][kColumnFragments][4] = {};

  static __device__ int warp_row() {
    return static_cast<int>(threadIdx.x) / kWarp / 2 * (kExtent / 2);
  }
  static __device__ int warp_column() {
    return static_cast<int>(threadIdx.x) / kWarp % 2 * (kExtent / 2);
  }
};

// Rounds float32 values to tf32. With kRest also takes what is left of them: value = high + low
// with 11 significant bits each, but for 2^-22 of it.
template <bool kRest>
__device__ void split(uint32_t (&high)[4], uint32_t (&low)[4]) {
#pragma unroll
  for (int v = 0; v < 4; ++v) {
    const float x = __uint_as_float(high[v]);
    high[v] = ptx::round_tf32(x);
    if constexpr (kRest) low[v] = ptx::round_tf32(x - __uint_as_float(high[v]));
  }
}

template <class T, Precision kPrecision, Major kLeft, Major kRight, int kExtent>
__device__ void multiply_block(Accumulators<kExtent>& sums, const unsigned char* left,
                               const unsigned char* right) {
  using Sums = Accumulators<kExtent>;
  const int row = Sums::warp_row(), column = Sums::warp_column();
  constexpr bool kSplit = sizeof(T) == 4 && kPrecision == Precision::float32;
#pragma unroll(kSplit ? 1 : kSteps)  // one step at a time keeps its parts in registers
  for (int step = 0; step < kSteps; ++step) {
    uint32_t a[Sums::kRowFragments][4], a_low[kSplit ? Sums::kRowFragments : 1][4];
#pragma unroll
    for (int i = 0; i < Sums::kRowFragments; ++i) {
      left_fragment<T, kLeft, kExtent>(a[i], left, row + 16 * i, step);
      if constexpr (sizeof(T) == 4) split<kSplit>(a[i], a_low[kSplit ? i : 0]);
    }
#pragma unroll
    for (int j = 0; j < Sums::kColumnFragments; j += 2) {
      uint32_t b[4], b_low[4];
      right_fragments<T, kRight, kExtent>(b, right, column + 8 * j, step);
      if constexpr (sizeof(T) == 4) split<kSplit>(b, b_low);
#pragma unroll
      for (int i = 0; i < Sums::kRowFragments; ++i)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          float(&sum)[4] = sums.values[i][j + half];
          if constexpr (kSplit) {  // the small ones first
            ptx::mma_m16n8k8_tf32(sum, a_low[i], b[2 * half], b[2 * half + 1]);
            ptx::mma_m16n8k8_tf32(sum, a[i], b_low[2 * half], b_low[2 * half + 1]);
          }
          if constexpr (sizeof(T) == 2)
            ptx::mma_m16n8k16_bf16(sum, a[i], b[2 * half], b[2 * half + 1]);
          else
            ptx::mma_m16n8k8_tf32(sum, a[i], b[2 * half], b[2 * half + 1]);
        }
    }
  }
}

// sums += the product over `blocks` blocks of k, which the loaders bring one after another. All
// threads of the block call it; `ring` is ring_bytes<kExtent>() of shared memory.
template <class T, Precision kPrecision, int kExtent, class Left, class Right>
__device__ void multiply_tiles(Accumulators<kExtent>& sums, Left& left, Right& right, int blocks,
                               unsigned char* ring) {
  constexpr int kTile = kTileBytes<kExtent>;
  const auto left_stage = [&](int block) { return ring + block % kStages * (2 * kTile); };
  const auto load = [&](int block) {
    if (block < blocks) {
      left.next(left_stage(block));
      right.next(left_stage(block) + kTile);
    }
    ptx::cp_async_commit();
  };

  __syncthreads();  // the ring may still be read
#pragma unroll
  for (int block = 0; block < kStages - 1; ++block) load(block);
  for (int block = 0; block < blocks; ++block) {
    ptx::cp_async_wait<kStages - 2>();
    __syncthreads();  // everyone's copies of this block are there, and the oldest stage is read
    load(block + kStages - 1);
    multiply_block<T, kPrecision, Left::Tile::kSide, Right::Tile::kSide>(sums, left_stage(block),
                                                                         left_stage(block) + kTile);
  }
  ptx::cp_async_wait<0>();
}

// Spreads the sums out in shared memory, row by row, for everyone to read.
template <int kExtent>
__device__ void share(const Accumulators<kExtent>& sums, float* shared) {
  using Sums = Accumulators<kExtent>;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  float* first = shared + (Sums::warp_row() + lane / 4) * (kExtent + kGap) + Sums::warp_column() +
                 lane % 4 * 2;
  __syncthreads();  // the ring has been read
#pragma unroll
  for (int i = 0; i < 2 * Sums::kRowFragments; ++i)
#pragma unroll
    for (int j = 0; j < Sums::kColumnFragments; ++j) {
      const float(&v)[4] = sums.values[i / 2][j];
      *reinterpret_cast<float2*>(first + 8 * i * (kExtent + kGap) + 8 * j) =
          float2{v[i % 2 * 2], v[i % 2 * 2 + 1]};
    }
  __syncthreads();
}

}  // namespace moat::kernels::sm80
