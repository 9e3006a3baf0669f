#pragma once

// The rows of a matrix shared out among the threads of a grid: a warp per row, a part of one, or a
// block.

#include "kernels/cuda/warp.cuh"

namespace moat::kernels {

inline constexpr int kRowBlock = 256;  // threads per block

// The Threads neighbouring threads of a block that share a row. Those of a part of a warp reduce
// together with the others: all of them, those behind the last row as well.
template <int Threads>
struct RowThreads {
  static constexpr int kRows = kRowBlock / Threads;  // per block
  int64_t row = int64_t{blockIdx.x} * kRows + threadIdx.x / Threads;
  int thread = static_cast<int>(threadIdx.x) % Threads;

  template <class T, class Op>
  __device__ T reduce(T value, Op op) const {
    if constexpr (Threads <= kWarp) {
      return warp_reduce<Threads>(value, op);
    } else {
      __shared__ T scratch[kRowBlock / kWarp];
      return block_reduce<kRowBlock>(value, op, scratch);
    }
  }
};

template <int Threads>
Grid row_grid(int rows) {
  constexpr int kRows = RowThreads<Threads>::kRows;
  return {dim3((static_cast<unsigned>(rows) + kRows - 1) / kRows), dim3(kRowBlock)};
}

}  // namespace moat::kernels
