#pragma once

// The weight gradient of a convolution over experts on Hopper, turned over: patches^T d_y, for an
// expert has more taps and input channels than output channels, and wgmma wants 64 rows. Both
// operands lie with the pixels, the sum's axis, across memory, which wgmma takes for bf16
// (Major::mn). Pixels of d_y come by TMA in blocks of 64 where they are all the expert's; else,
// like those of x, by cp.async, with zeros after the last.

#include <algorithm>

#include "kernels/experts/grouped_conv2d/product.h"
#include "kernels/experts/grouped_gemm/ring_sm90.cuh"
#include "kernels/experts/grouped_gemm/split_sums_sm90.cuh"
#include "kernels/experts/grouped_gemm/tile_scheduler.cuh"

namespace moat::kernels::sm90 {

struct ConvWeightGrad {
  TensorMap d_y;  // boxes of 64 channels x kDepth pixels
  GroupedConv2dWeightGrad a;
  ImageShape y;
  float* sums;  // [splits, experts, c_out, r · s · c_in]: d_filters itself when there is one split
  int splits, terms;  // r · s · c_in
};

template <int kTileColumns>
struct PatchTile {
  static constexpr int kRows = 128, kColumns = kTileColumns;  // of r · s · c_in, of c_out
  static constexpr int kSquaresOfX = kRows / 64, kSquaresOfDy = kColumns / 64;
  static constexpr int kStageBytes = (kSquaresOfX + kSquaresOfDy) * kSquareBytes;
  static constexpr int kReaders = 2 * kGroup / kWarp;
  using Operands = Ring<std::min(6, kMostShared / (kStageBytes + 16)), kStageBytes>;
  static constexpr int kSharedBytes = Operands::kBytes + Operands::kBarrierBytes;
  static constexpr int kLoadRegisters = 72, kMultiplyRegisters = 216;
  static_assert(kSharedBytes <= kMostShared);
};

// A tile of one expert's gradient, and the part of the expert's pixels that it is summed over.
struct PatchWork {
  int64_t expert, split;
  int row, column;          // of the tile
  int first, end;           // the expert's pixels
  int first_block, blocks;  // of kDepth pixels

  template <class T>
  static __device__ PatchWork at(const ConvWeightGrad& p, int64_t number, T) {
    const GroupedConv2dWeightGrad& a = p.a;
    const int down = (p.terms + T::kRows - 1) / T::kRows,
              tiles = down * ((a.geometry.c_out + T::kColumns - 1) / T::kColumns),
              tile = static_cast<int>(number % tiles);
    const int64_t part = number / tiles;
    PatchWork work;
    work.expert = part / p.splits;
    work.split = part % p.splits;
    work.row = tile % down * T::kRows;
    work.column = tile / down * T::kColumns;
    work.first = segment_start(a.offsets, work.expert, a.n) * p.y.pixels();
    work.end = max(segment_start(a.offsets, work.expert + 1, a.n) * p.y.pixels(), work.first);
    const int64_t all = (work.end - work.first + kDepth - 1) / kDepth;
    work.first_block = static_cast<int>(all * work.split / p.splits);
    work.blocks = static_cast<int>(all * (work.split + 1) / p.splits) - work.first_block;
    return work;
  }
};

template <class T>
constexpr int64_t patch_works(const GroupedConv2dWeightGrad& a, int splits) {
  const int64_t terms = int64_t{a.geometry.r} * a.geometry.s * a.geometry.c_in;
  return int64_t{a.experts} * splits * ((terms + T::kRows - 1) / T::kRows) *
         ((a.geometry.c_out + T::kColumns - 1) / T::kColumns);
}

// Eight channels of a tap: how far its pixel is from the first one of a patch without padding, and
// where it is for the first such patch of all images.
struct Tap {
  int y = 0, x = 0;
  const Bf16* origin = nullptr;

  __device__ Tap() {}
  __device__ Tap(const GroupedConv2dWeightGrad& a, int term) {
    const Conv2dGeometry& g = a.geometry;
    const Digits at = Radix{g.s, g.c_in}.digits(term);
    y = at.high - g.padding;
    x = at.middle - g.padding;
    origin = static_cast<const Bf16*>(a.x) + (int64_t{y} * g.width + x) * g.c_in + at.low;
    if (at.high >= g.r) y = INT32_MIN / 2;  // behind the last tap: in no image
  }
};

// Neither negative nor too large, in one comparison.
__device__ inline bool is_below(int i, int extent) {
  return static_cast<unsigned>(i) < static_cast<unsigned>(extent);
}

// Eight neighbouring lanes copy 128 bytes of a pixel's patch, each from a tap of its own.
template <class T>
__device__ void load_patches(const ConvWeightGrad& p, const typename T::Operands& ring) {
  constexpr int kLines = kGroup / 8;  // copied at a time
  const Conv2dGeometry& g = p.a.geometry;
  const Bf16* d_y = static_cast<const Bf16*>(p.a.d_y);
  const Radix pixels{p.y.height, p.y.width};
  const Digits lines = pixels.digits(kLines);
  const int chunk = thread_of_group() % 8, first_line = thread_of_group() / 8;
  const LateArrival arrival(ring);
  unsigned step = 0;
  const int64_t works = patch_works<T>(p.a, p.splits);
  for (int64_t number = blockIdx.x; number < works; number += gridDim.x) {
    const PatchWork work = PatchWork::at(p, number, T());
    Tap tap[T::kSquaresOfX];
#pragma unroll
    for (int s = 0; s < T::kSquaresOfX; ++s) tap[s] = Tap(p.a, work.row + s * 64 + chunk * 8);
    Digits pixel = pixels.digits(work.first + work.first_block * kDepth + first_line);
    for (int block = work.first_block; block < work.first_block + work.blocks; ++block, ++step) {
      const int row = work.first + block * kDepth;
      const bool is_whole = work.end - row >= kDepth;
      ring.wait_empty(step);
      unsigned char *x_squares = ring.stage(step),
                    *dy_squares = x_squares + T::kSquaresOfX * kSquareBytes;
      if (thread_of_group() == 0) {
        uint64_t* full = ring.full(step);
        ptx::mbarrier_arrive_expect_tx(full, is_whole ? T::kSquaresOfDy * kSquareBytes : 0);
        for (int s = 0; s < T::kSquaresOfDy && is_whole; ++s)
          ptx::tma_load_2d(dy_squares + s * kSquareBytes, &p.d_y, full, work.column + s * 64, row);
      }
      __syncwarp();
#pragma unroll
      for (int i = 0; i < kDepth / kLines; ++i) {
        const int line = first_line + i * kLines;
        const bool is_there = row + line < work.end;
        if (!is_whole)
          copy_line<T::kSquaresOfDy>(dy_squares, line,
                                     is_there ? d_y + int64_t{row + line} * g.c_out : nullptr,
                                     work.column, g.c_out, d_y);
        const int from_y = pixel.middle * g.stride, from_x = pixel.low * g.stride;
        const int64_t at = int64_t{(pixel.high * g.height + from_y) * g.width + from_x} * g.c_in;
#pragma unroll
        for (int s = 0; s < T::kSquaresOfX; ++s) {
          const bool present = is_there && is_below(from_y + tap[s].y, g.height) &&
                               is_below(from_x + tap[s].x, g.width);
          ptx::cp_async_l1(x_squares + s * kSquareBytes + line * 128 + (chunk ^ line % 8) * 16,
                           tap[s].origin + at, present ? 16 : 0);
        }
        pixel = pixels.sum(pixel, lines);
      }
      arrival.issued(step);
    }
  }
  arrival.finish(step);
}

template <class T>
__device__ void multiply_patches(const ConvWeightGrad& p, const typename T::Operands& ring,
                                 int turn) {
  const int outputs = p.a.geometry.c_out;
  unsigned step = 0;
  const int64_t works = patch_works<T>(p.a, p.splits);
  for (int64_t number = blockIdx.x; number < works; number += gridDim.x) {
    const PatchWork work = PatchWork::at(p, number, T());
    const auto steps = static_cast<unsigned>(work.blocks);
    float sums[T::kColumns / 2];
#pragma unroll
    for (float& sum : sums) sum = 0;
    multiply(
        ring, step, steps,
        [&](unsigned char* stage) {
          const uint32_t x =
              ptx::shared_address(stage) + static_cast<uint32_t>(turn) * kSquareBytes;
          const uint32_t d_y = ptx::shared_address(stage) + T::kSquaresOfX * kSquareBytes;
#pragma unroll
          for (uint32_t part = 0; part < kDepth / 16; ++part)
            ptx::wgmma_m64k16_bf16<T::kColumns, ptx::Major::mn, ptx::Major::mn>(
                sums, ptx::mn_major(x + part * 2048, Swizzle::b128, kSquareBytes),
                ptx::mn_major(d_y + part * 2048, Swizzle::b128, kSquareBytes), 1);
        },
        [] {});
    ptx::wgmma_results(sums);
    step += steps;

    // Turned back: eight lanes, with a term each, store a 32-byte sector.
    const int row = work.row + turn * 64 + thread_of_group() / kWarp * 16 + lane() / 4;
    const int column = work.column + lane() % 4 * 2;
    float* to =
        p.sums + ((work.split * p.a.experts + work.expert) * outputs + column) * p.terms + row;
#pragma unroll
    for (int j = 0; j < T::kColumns / 8; ++j) {
      if (column + 8 * j >= outputs) continue;
      float *low = to + int64_t{8 * j} * p.terms, *high = low + p.terms;
      if (row < p.terms) *low = sums[4 * j], *high = sums[4 * j + 1];
      if (row + 8 < p.terms) low[8] = sums[4 * j + 2], high[8] = sums[4 * j + 3];
    }
  }
}

// 2 · pixels · c_out · r · s · c_in operations for all experts together. A step of a 128 x 64 tile
// loads 24 KiB, mostly from the caches, for 256 clocks of tensor cores.
template <class T>
__global__ void __launch_bounds__(kThreads, 1)
    conv_weight_grad_kernel(const __grid_constant__ ConvWeightGrad p) {
  unsigned char* shared = shared_memory<unsigned char>();
  const typename T::Operands ring(shared, shared + T::Operands::kBytes);
  if (threadIdx.x == 0) {
    ring.begin(1 + kLateArrivals, T::kReaders);
    ptx::fence_mbarrier_init();
  }
  __syncthreads();
  if (group() == 0) {
    ptx::setmaxnreg_dec<T::kLoadRegisters>();
    load_patches<T>(p, ring);
  } else {
    ptx::setmaxnreg_inc<T::kMultiplyRegisters>();
    multiply_patches<T>(p, ring, group() - 1);
  }
}

}  // namespace moat::kernels::sm90
