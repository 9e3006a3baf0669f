#pragma once

// d_w[e] = d_y^T x over the rows of an expert, on Hopper: both operands lie with the sum's axis,
// the rows, across memory, which wgmma takes for bf16 (Major::mn). Blocks of 64 rows come by TMA
// where they are in order and all the expert's. Else they are copied row by row, with zeros after
// the last: here a row of the next expert would not stay in a row of its own, but enter every sum.

#include <algorithm>

#include "kernels/experts/grouped_gemm.h"
#include "kernels/experts/grouped_gemm/heuristics.h"
#include "kernels/experts/grouped_gemm/ring_sm90.cuh"
#include "kernels/experts/grouped_gemm/split_sums_sm90.cuh"
#include "kernels/experts/grouped_gemm/tile_scheduler.cuh"

namespace moat::kernels::sm90 {

struct WeightGrad {
  TensorMap d_y, x;  // boxes of 64 columns x kDepth rows
  GroupedGemmWeightGrad a;
  float* sums;  // [splits, experts, n, k]: d_w itself when there is one split
  int splits;
};

template <int kTileRows, int kTileColumns>
struct WeightGradTile {
  static constexpr int kRows = kTileRows, kColumns = kTileColumns;  // of n, of k
  static constexpr GroupedTileShape kShape{kRows, kColumns, TileSchedule::cooperative};
  static_assert(kRows == 128 && kColumns % 64 == 0);  // 64 rows of each of two warpgroups
  static constexpr int kSquaresOfDy = kRows / 64, kSquaresOfX = kColumns / 64;
  static constexpr int kStageBytes = (kSquaresOfDy + kSquaresOfX) * kSquareBytes;
  static constexpr int kReaders = 2 * kGroup / kWarp;
  using Operands = Ring<std::min(6, kMostShared / (kStageBytes + 16)), kStageBytes>;
  static constexpr int kSharedBytes = Operands::kBytes + Operands::kBarrierBytes;
  static constexpr int kLoadRegisters = 72, kMultiplyRegisters = 216;
  static_assert(kSharedBytes <= kMostShared);
};

// A tile of one expert's d_w, and the part of the expert's rows that it is summed over.
struct WeightGradWork {
  int64_t expert, split;
  int row, column;          // in d_w[expert]
  int first, end;           // the expert's rows
  int first_block, blocks;  // of kDepth rows

  template <class T>
  static __device__ WeightGradWork at(const WeightGrad& p, int64_t number, T) {
    const GroupedGemmWeightGrad& a = p.a;
    const int across = (a.k + T::kColumns - 1) / T::kColumns;
    const int tiles = across * ((a.n + T::kRows - 1) / T::kRows);
    const int tile = static_cast<int>(number % tiles);
    const int64_t part = number / tiles;
    WeightGradWork work;
    work.expert = part / p.splits;
    work.split = part % p.splits;
    work.row = tile / across * T::kRows;
    work.column = tile % across * T::kColumns;
    work.first = segment_start(a.offsets, work.expert, a.rows);
    work.end = max(segment_start(a.offsets, work.expert + 1, a.rows), work.first);
    const int64_t all = (work.end - work.first + kDepth - 1) / kDepth;
    work.first_block = static_cast<int>(all * work.split / p.splits);
    work.blocks = static_cast<int>(all * (work.split + 1) / p.splits) - work.first_block;
    return work;
  }
};

template <class T>
constexpr int64_t weight_grad_works(const GroupedGemmWeightGrad& a, int splits) {
  return int64_t{a.experts} * splits * ((a.n + T::kRows - 1) / T::kRows) *
         ((a.k + T::kColumns - 1) / T::kColumns);
}

template <class T>
__device__ void load_weight_grad(const WeightGrad& p, const typename T::Operands& ring) {
  const GroupedGemmWeightGrad& a = p.a;
  const Bf16 *x = static_cast<const Bf16*>(a.x), *d_y = static_cast<const Bf16*>(a.d_y);
  const LateArrival arrival(ring);
  unsigned step = 0;
  const int64_t works = weight_grad_works<T>(a, p.splits);
  for (int64_t number = blockIdx.x; number < works; number += gridDim.x) {
    const WeightGradWork work = WeightGradWork::at(p, number, T());
    for (int block = work.first_block; block < work.first_block + work.blocks; ++block, ++step) {
      const int row = work.first + block * kDepth;
      const bool is_whole = work.end - row >= kDepth, has_x_box = is_whole && !a.row_token;
      int tokens[4];  // of this thread's rows, -1: zeros
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int r = row + thread_of_group() / 8 + 16 * i;
        const int token = r >= work.end || has_x_box ? -1 : a.row_token ? a.row_token[r] : r;
        tokens[i] = token < a.x_rows ? token : -1;
      }
      ring.wait_empty(step);
      unsigned char *dy_squares = ring.stage(step),
                    *x_squares = dy_squares + T::kSquaresOfDy * kSquareBytes;
      if (thread_of_group() == 0) {
        uint64_t* full = ring.full(step);
        ptx::mbarrier_arrive_expect_tx(full, (is_whole ? T::kSquaresOfDy * kSquareBytes : 0) +
                                                 (has_x_box ? T::kSquaresOfX * kSquareBytes : 0));
        for (int s = 0; s < T::kSquaresOfDy && is_whole; ++s)
          ptx::tma_load_2d(dy_squares + s * kSquareBytes, &p.d_y, full, work.row + s * 64, row);
        for (int s = 0; s < T::kSquaresOfX && has_x_box; ++s)
          ptx::tma_load_2d(x_squares + s * kSquareBytes, &p.x, full, work.column + s * 64, row);
      }
      __syncwarp();
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int line = thread_of_group() / 8 + 16 * i;
        if (!is_whole)
          copy_line<T::kSquaresOfDy>(
              dy_squares, line, row + line < work.end ? d_y + int64_t{row + line} * a.n : nullptr,
              work.row, a.n, d_y);
        if (!has_x_box)
          copy_line<T::kSquaresOfX>(x_squares, line,
                                    tokens[i] >= 0 ? x + int64_t{tokens[i]} * a.k : nullptr,
                                    work.column, a.k, x);
      }
      arrival.issued(step);
    }
  }
  arrival.finish(step);
}

template <class T>
__device__ void multiply_weight_grad(const WeightGrad& p, const typename T::Operands& ring,
                                     int turn) {
  const GroupedGemmWeightGrad& a = p.a;
  unsigned step = 0;
  const int64_t works = weight_grad_works<T>(a, p.splits);
  for (int64_t number = blockIdx.x; number < works; number += gridDim.x) {
    const WeightGradWork work = WeightGradWork::at(p, number, T());
    const auto steps = static_cast<unsigned>(work.blocks);
    float sums[T::kColumns / 2];
#pragma unroll
    for (float& sum : sums) sum = 0;
    multiply(
        ring, step, steps,
        [&](unsigned char* stage) {
          const uint32_t d_y =
              ptx::shared_address(stage) + static_cast<uint32_t>(turn) * kSquareBytes;
          const uint32_t x = ptx::shared_address(stage) + T::kSquaresOfDy * kSquareBytes;
#pragma unroll
          for (uint32_t part = 0; part < kDepth / 16; ++part)
            ptx::wgmma_m64k16_bf16<T::kColumns, ptx::Major::mn, ptx::Major::mn>(
                sums, ptx::mn_major(d_y + part * 2048, Swizzle::b128, kSquareBytes),
                ptx::mn_major(x + part * 2048, Swizzle::b128, kSquareBytes), 1);
        },
        [] {});
    ptx::wgmma_results(sums);
    step += steps;

    // Four lanes store a 32-byte sector.
    const int row = work.row + turn * 64 + thread_of_group() / kWarp * 16 + lane() / 4;
    const int column = work.column + lane() % 4 * 2;
    float* to = p.sums + ((work.split * a.experts + work.expert) * a.n + row) * a.k + column;
#pragma unroll
    for (int j = 0; j < T::kColumns / 8; ++j) {
      if (column + 8 * j >= a.k) continue;
      if (row < a.n) *reinterpret_cast<float2*>(to + 8 * j) = {sums[4 * j], sums[4 * j + 1]};
      if (row + 8 < a.n)
        *reinterpret_cast<float2*>(to + int64_t{8} * a.k + 8 * j) = {sums[4 * j + 2],
                                                                     sums[4 * j + 3]};
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads, 1)
    weight_grad_kernel(const __grid_constant__ WeightGrad p) {
  unsigned char* shared = shared_memory<unsigned char>();
  const typename T::Operands ring(shared, shared + T::Operands::kBytes);
  if (threadIdx.x == 0) {
    ring.begin(1 + kLateArrivals, T::kReaders);
    ptx::fence_mbarrier_init();
  }
  __syncthreads();
  if (group() == 0) {
    ptx::setmaxnreg_dec<T::kLoadRegisters>();
    load_weight_grad<T>(p, ring);
  } else {
    ptx::setmaxnreg_inc<T::kMultiplyRegisters>();
    multiply_weight_grad<T>(p, ring, group() - 1);
  }
}

}  // namespace moat::kernels::sm90
