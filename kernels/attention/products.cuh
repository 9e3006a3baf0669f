#pragma once

// The two products of attention for a block's tile of rows: with the other rows, which gives a
// tile of scores, and of such a tile with the other rows, summed up. FmaProducts for float32 and
// float64, MmaProducts for the tensor cores. A thread holds a few rows of either result, and shares
// them with its neighbouring kLanes lanes only.

#include "kernels/cuda/vector.cuh"
#include "kernels/cuda/warp.cuh"
#include "kernels/ptx.cuh"

namespace moat::kernels::attention_tiles {

// Rows of at most kWidth values. 16 by 16 threads: thread (ty, tx) has rows ty, ty + 16, …, other
// rows tx, tx + 16, …, and of a wide row vectors of neighbouring columns.
template <class T, int kWidth>
struct FmaProducts {
  using Value = T;
  using Sum = T;
  static constexpr int kVector = kVectorSize<T>;
  static constexpr int kThreads = 256, kLanes = 16;
  static constexpr int kBlocks = 2;  // of a multiprocessor; asked for more, ptxas spills
  static constexpr int kMyRows = (kWidth <= 64 ? 4 : 2) * 4 / static_cast<int>(sizeof(T)),
                       kMyOthers = kMyRows, kMyColumns = kWidth / kLanes, kMyStrip = kMyOthers;
  static constexpr int kRows = 16 * kMyRows, kOthers = kRows, kStrip = kOthers;
  static constexpr int kChunks = kWidth / kVector;                     // of 16 bytes
  static constexpr int kPadding = kVector, kPitch = kWidth + kVector;  // odd in 16 bytes
  static constexpr int kScratchPitch = kOthers + kVector, kScratch = kRows * kScratchPitch;
  static constexpr bool kTakesHeads = false;

  struct Scores {
    T values[kMyRows][kMyOthers] = {};
    __device__ T& at(int i, int j) { return values[i][j]; }
  };
  using Strip = Scores;
  struct Wide {
    T values[kMyRows][kMyColumns] = {};
    __device__ T& at(int i, int c) { return values[i][c]; }
    __device__ T at(int i, int c) const { return values[i][c]; }
  };

  static __device__ int lane() { return static_cast<int>(threadIdx.x) % kLanes; }
  static __device__ int row(int i) { return static_cast<int>(threadIdx.x) / kLanes + 16 * i; }
  static __device__ int other(int j) { return lane() + 16 * j; }
  static __device__ int column(int c) {
    return (c / kVector * kLanes + lane()) * kVector + c % kVector;
  }

  // scores += own · othersᵀ
  static __device__ void multiply(Scores& scores, const T* own, const T* others, int width) {
    for (int d = 0; d < width; d += kVector) {
      Vector<T, kVector> a[kMyRows], b[kMyOthers];
#pragma unroll
      for (int i = 0; i < kMyRows; ++i) a[i] = load<kVector>(own + row(i) * kPitch + d);
#pragma unroll
      for (int j = 0; j < kMyOthers; ++j) b[j] = load<kVector>(others + other(j) * kPitch + d);
#pragma unroll
      for (int n = 0; n < kVector; ++n)
#pragma unroll
        for (int i = 0; i < kMyRows; ++i)
#pragma unroll
          for (int j = 0; j < kMyOthers; ++j)
            scores.values[i][j] += a[i].values[n] * b[j].values[n];
    }
  }

  // sums += scores · others. A row's lanes tell each other its scores through `scratch`.
  static __device__ void accumulate(Wide& sums, const Scores& scores, const T* others, int width,
                                    T* scratch) {
    __syncwarp();  // the scores before these have been read
#pragma unroll
    for (int i = 0; i < kMyRows; ++i)
#pragma unroll
      for (int j = 0; j < kMyOthers; ++j)
        scratch[row(i) * kScratchPitch + other(j)] = scores.values[i][j];
    __syncwarp();
    for (int k = 0; k < kOthers; k += kVector) {
      Vector<T, kVector> a[kMyRows];
#pragma unroll
      for (int i = 0; i < kMyRows; ++i) a[i] = load<kVector>(scratch + row(i) * kScratchPitch + k);
#pragma unroll
      for (int n = 0; n < kVector; ++n)
#pragma unroll
        for (int c = 0; c < kMyColumns; c += kVector) {
          if (column(c) >= width) continue;
          const Vector<T, kVector> b = load<kVector>(others + (k + n) * kPitch + column(c));
#pragma unroll
          for (int i = 0; i < kMyRows; ++i)
#pragma unroll
            for (int m = 0; m < kVector; ++m) sums.values[i][c + m] += a[i].values[n] * b.values[m];
        }
    }
  }
};

// The tensor cores: bfloat16, and float32 rounded to tf32. kTile rows, 16 per warp; lane 4g + t has
// rows g and g + 8 of its warp's, and of every 8 other rows or columns 2t and 2t + 1.
template <class T, int kWidth, int kTile = 64>
struct MmaProducts {
  using Value = T;
  using Sum = float;
  static constexpr bool kBf16 = sizeof(T) == 2;
  static constexpr int kThreads = kTile / 16 * kWarp, kLanes = 4;
  static constexpr int kRows = kTile;
  // As registers and 99 KiB of shared memory allow.
  static constexpr int kOthers = kWidth <= 64 ? kTile : kBf16 ? 32 : 16;
  // Of a multiprocessor, whose registers are enough for 16 warps of 128; asked for more, ptxas
  // spills.
  static constexpr int kBlocks = kBf16 && kWidth <= 64 ? 256 / kTile : 2;
  static constexpr int kStrip = 16;  // other rows whose scores the gradients hold at a time
  static constexpr int kMyRows = 2, kMyOthers = kOthers / kLanes, kMyColumns = kWidth / kLanes,
                       kMyStrip = kStrip / kLanes;
  static constexpr int kChunk = kVectorSize<T>, kStep = 2 * kChunk;  // terms of one mma
  static constexpr int kChunks = kWidth / kChunk;                    // of 16 bytes
  static constexpr int kPadding = kStep, kPitch = kWidth + kChunk;   // odd in 16 bytes
  static constexpr int kScratch = 0;
  static constexpr bool kTakesHeads = kBf16 && kWidth <= 64;  // as a whole: backward_head.cuh
  static constexpr int kScorePitch = kOthers + kChunk;        // of scores in shared memory

  template <int kColumns>
  struct Fragments {
    float values[kColumns / 8][4] = {};
    __device__ float& at(int i, int j) { return values[j / 2][2 * i + j % 2]; }
    __device__ float at(int i, int j) const { return values[j / 2][2 * i + j % 2]; }
  };
  using Scores = Fragments<kOthers>;
  using Strip = Fragments<kStrip>;
  using Wide = Fragments<kWidth>;

  static __device__ int warp_row() { return static_cast<int>(threadIdx.x) / kWarp * 16; }
  static __device__ int lane() { return lane_index() % kLanes; }
  static __device__ int row(int i) { return warp_row() + lane_index() / kLanes + 8 * i; }
  static __device__ int other(int j) { return 8 * (j / 2) + 2 * lane() + j % 2; }
  static __device__ int column(int c) { return other(c); }

  static __device__ void mma(float (&sums)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    if constexpr (kBf16)
      ptx::mma_m16n8k16_bf16(sums, a, b0, b1);
    else
      ptx::mma_m16n8k8_tf32(sums, a, b0, b1);
  }
  // Four 8 by 8 matrices of 16 bits, or 8 by 4 of 32, as operands.
  static __device__ void load_fragments(uint32_t (&fragments)[4], const T* row) {
    ptx::ldmatrix_x4(fragments, row);
    if constexpr (!kBf16)
      for (uint32_t& f : fragments) f = ptx::round_tf32(__uint_as_float(f));
  }

  // scores += own · othersᵀ, for a tile of other rows or a strip.
  template <int kColumns>
  static __device__ void multiply(Fragments<kColumns>& scores, const T* own, const T* others,
                                  int width) {
    const int l = lane_index();
    const T* left = own + (warp_row() + l % 16) * kPitch + l / 16 * kChunk;
    const T* right = others + (l / 16 * 8 + l % 8) * kPitch + l / 8 % 2 * kChunk;
    for (int d = 0; d < width; d += kStep) {
      uint32_t a[4];
      load_fragments(a, left + d);
#pragma unroll
      for (int j = 0; j < kColumns / 16; ++j) {
        uint32_t b[4];
        load_fragments(b, right + 16 * j * kPitch + d);
        mma(scores.values[2 * j], a, b[0], b[1]);
        mma(scores.values[2 * j + 1], a, b[2], b[3]);
      }
    }
  }

  // sums += scores · others. The scores are rounded where they are: as the first product leaves
  // them, they are an operand of the second.
  template <int kColumns>
  static __device__ void accumulate(Wide& sums, const Fragments<kColumns>& scores, const T* others,
                                    int width, float*) {
    if constexpr (kBf16)
      accumulate_bf16(sums, scores, others, width);
    else
      accumulate_tf32(sums, scores, others, width);
  }

  // Rounded scores of this warp's rows, to [kRows, kScorePitch].
  static __device__ void leave(const Scores& scores, Bf16* to) {
#pragma unroll
    for (int j = 0; j < kOthers / 8; ++j)
#pragma unroll
      for (int i = 0; i < kMyRows; ++i)
        *reinterpret_cast<uint32_t*>(to + row(i) * kScorePitch + 8 * j + 2 * lane()) =
            ptx::pack_bf16(scores.values[j][2 * i], scores.values[j][2 * i + 1]);
  }

  // sums += scoresᵀ · rows, of scores that all warps have left: this warp's rows are their columns.
  static __device__ void accumulate_transposed(Wide& sums, const Bf16* scores, const Bf16* rows,
                                               int width) {
    const int l = lane_index();
    const Bf16* left = scores + (l / 16 * 8 + l % 8) * kScorePitch + warp_row() + l / 8 % 2 * 8;
#pragma unroll
    for (int k = 0; k < kRows; k += 16) {
      uint32_t a[4];
      ptx::ldmatrix_x4_trans(a, left + k * kScorePitch);
      accumulate_terms(sums, a, rows + k * kPitch, width);
    }
  }

 private:
  // sums += a · 16 rows, of bfloat16.
  static __device__ void accumulate_terms(Wide& sums, const uint32_t (&a)[4], const T* rows,
                                          int width) {
    const int l = lane_index();
    const T* right = rows + (l / 8 % 2 * 8 + l % 8) * kPitch + l / 16 * 8;
#pragma unroll
    for (int c = 0; c < kWidth / 16; ++c) {
      if (16 * c >= width) continue;
      uint32_t b[4];
      ptx::ldmatrix_x4_trans(b, right + 16 * c);
      mma(sums.values[2 * c], a, b[0], b[1]);
      mma(sums.values[2 * c + 1], a, b[2], b[3]);
    }
  }

  template <int kColumns>
  static __device__ void accumulate_bf16(Wide& sums, const Fragments<kColumns>& scores,
                                         const T* others, int width) {
#pragma unroll
    for (int k = 0; k < kColumns / 16; ++k) {
      const float(&low)[4] = scores.values[2 * k], (&high)[4] = scores.values[2 * k + 1];
      const uint32_t a[4] = {ptx::pack_bf16(low[0], low[1]), ptx::pack_bf16(low[2], low[3]),
                             ptx::pack_bf16(high[0], high[1]), ptx::pack_bf16(high[2], high[3])};
      accumulate_terms(sums, a, others + 16 * k * kPitch, width);
    }
  }

  // Other rows 2t and 2t + 1 of each 8 are the terms t and t + 4 of an mma, on both sides.
  template <int kColumns>
  static __device__ void accumulate_tf32(Wide& sums, const Fragments<kColumns>& scores,
                                         const T* others, int width) {
    const T* right = others + 2 * lane() * kPitch + lane_index() / kLanes;
#pragma unroll
    for (int k = 0; k < kColumns / 8; ++k) {
      const float(&s)[4] = scores.values[k];
      const uint32_t a[4] = {ptx::round_tf32(s[0]), ptx::round_tf32(s[2]), ptx::round_tf32(s[1]),
                             ptx::round_tf32(s[3])};
#pragma unroll
      for (int c = 0; c < kWidth / 8; ++c) {
        if (8 * c >= width) continue;
        const T* b = right + 8 * k * kPitch + 8 * c;
        mma(sums.values[c], a, ptx::round_tf32(b[0]), ptx::round_tf32(b[kPitch]));
      }
    }
  }
};

}  // namespace moat::kernels::attention_tiles
