#pragma once

#include "kernels/experts/grouped_gemm/epilogue.cuh"
#include "kernels/experts/grouped_gemm/mainloop_sm80.cuh"
#include "kernels/experts/grouped_gemm/tile_scheduler.cuh"

namespace moat::kernels::sm80 {

// d_w[e] = d_y[e]^T · x[e]: both operands lie with their rows, the terms of the sums, one after
// another. An expert's rows are cut into `splits` pieces of whole blocks of the mainloop, so that
// there are enough tiles for the chip: the first piece's sums go to d_w, those of piece s > 0 to
// partial[s - 1], and add_pieces_kernel adds them in order.
struct WeightGradSplit {
  int splits;
  float* partial;  // [splits - 1, experts, n, k]
};

// The rows of piece `split` of an expert.
struct Piece {
  int first, end;

  __device__ Piece(const GroupedGemmWeightGrad& a, int expert, int split, int splits, int depth) {
    const int begin = segment_start(a.offsets, expert, a.rows);
    const int stop = max(begin, segment_start(a.offsets, expert + 1, a.rows));
    const int blocks = (stop - begin + depth - 1) / depth;
    const int64_t length = int64_t{(blocks + splits - 1) / splits} * depth;
    first = begin + static_cast<int>(min(split * length, int64_t{stop - begin}));
    end = begin + static_cast<int>(min((split + 1) * length, int64_t{stop - begin}));
  }
  __device__ bool exists() const { return first < end; }
};

template <class T, Precision kPrecision, int kExtent, Access kAccess>
__global__ void __launch_bounds__(kThreads)
    weight_grad_kernel(GroupedGemmWeightGrad a, WeightGradSplit split) {
  unsigned char* ring = shared_memory<unsigned char>();
  const int row_tiles = (a.n + kExtent - 1) / kExtent, column_tiles = (a.k + kExtent - 1) / kExtent;
  const int64_t tiles = int64_t{a.experts} * split.splits * row_tiles * column_tiles;
  const bool aligned = takes_vectors<float>(a.d_w, a.k);  // partial sums begin at 256 bytes
  for (int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const int column = static_cast<int>(tile % column_tiles) * kExtent,
              row = static_cast<int>(tile / column_tiles % row_tiles) * kExtent,
              piece = static_cast<int>(tile / column_tiles / row_tiles % split.splits),
              expert = static_cast<int>(tile / column_tiles / row_tiles / split.splits);
    const Piece rows(a, expert, piece, split.splits, kDepth<T>);
    if (piece > 0 && !rows.exists()) continue;
    TermLoader<T, kExtent, kAccess, Direct> left(
        static_cast<const T*>(a.d_y), a.n, [&](int c) { return row + c < a.n ? row + c : -1; },
        rows.first, rows.end, {});
    TermLoader<T, kExtent, kAccess, Gathered> right(
        static_cast<const T*>(a.x), a.k, [&](int c) { return column + c < a.k ? column + c : -1; },
        rows.first, rows.end, {a.row_token, a.x_rows});
    Accumulators<kExtent> sums;
    multiply_tiles<T, kPrecision>(sums, left, right,
                                  (rows.end - rows.first + kDepth<T> - 1) / kDepth<T>, ring);
    float* to = piece == 0 ? static_cast<float*>(a.d_w)
                           : split.partial + (piece - 1) * (int64_t{a.experts} * a.n * a.k);
    to += int64_t{expert} * a.n * a.k;
    float* shared = reinterpret_cast<float*>(ring);
    share(sums, shared);
    constexpr int kChunks = kExtent / 4;
    for (int i = static_cast<int>(threadIdx.x); i < kExtent * kChunks; i += kThreads) {
      const int r = i / kChunks, c = i % kChunks * 4;
      if (row + r >= a.n || column + c >= a.k) continue;
      const float4 v = *reinterpret_cast<const float4*>(shared + r * (kExtent + kGap) + c);
      store_values(to + (int64_t{row} + r) * a.k + column + c, {v.x, v.y, v.z, v.w},
                   a.k - column - c, aligned);
    }
  }
}

// d_w[e] += partial[0][e] + partial[1][e] + …, as many as the expert's rows made. `blocks` blocks
// per expert.
__global__ void __launch_bounds__(kAddThreads)
    add_pieces_kernel(GroupedGemmWeightGrad a, WeightGradSplit split, int blocks, int depth) {
  const int64_t matrix = int64_t{a.n} * a.k, all = matrix * a.experts;
  const int expert = static_cast<int>(blockIdx.x) / blocks;
  int pieces = 1;
  while (pieces < split.splits && Piece(a, expert, pieces, split.splits, depth).exists()) ++pieces;
  if (pieces == 1) return;
  float* d_w = static_cast<float*>(a.d_w) + expert * matrix;
  const float* partial = split.partial + expert * matrix;
  for (int64_t i = int64_t{blockIdx.x} % blocks * kAddThreads + threadIdx.x; i < matrix;
       i += int64_t{blocks} * kAddThreads) {
    float sum = d_w[i];
    for (int piece = 1; piece < pieces; ++piece) sum += partial[(piece - 1) * all + i];
    d_w[i] = sum;
  }
}

// d_bias[e, j] = sum of d_y[r, j] over the rows of e: 32 columns per block, every eighth row in one
// warp, the warps' sums added in order.
inline constexpr int kBiasRows = 8;

template <class T>
__global__ void __launch_bounds__(kBiasRows* kWarp) bias_grad_kernel(GroupedGemmWeightGrad a) {
  using C = compute_t<T>;
  __shared__ C sums[kBiasRows][kWarp];
  const int column_tiles = (a.n + kWarp - 1) / kWarp;
  const int expert = static_cast<int>(blockIdx.x) / column_tiles,
            lane = static_cast<int>(threadIdx.x) % kWarp,
            warp = static_cast<int>(threadIdx.x) / kWarp,
            column = static_cast<int>(blockIdx.x) % column_tiles * kWarp + lane;
  const Piece rows(a, expert, 0, 1, 1);
  C sum = 0;
  if (column < a.n)
    for (int r = rows.first + warp; r < rows.end; r += kBiasRows)
      sum += C(static_cast<const T*>(a.d_y)[int64_t{r} * a.n + column]);
  sums[warp][lane] = sum;
  __syncthreads();
  if (warp > 0 || column >= a.n) return;
  for (int w = 1; w < kBiasRows; ++w) sum += sums[w][lane];
  static_cast<C*>(a.d_bias)[int64_t{expert} * a.n + column] = sum;
}

// float64, for gradient checks: a thread per value of d_w.
__global__ void __launch_bounds__(kAddThreads) weight_grad_f64_kernel(GroupedGemmWeightGrad a) {
  const int64_t matrix = int64_t{a.n} * a.k, all = matrix * a.experts;
  const int64_t step = int64_t{gridDim.x} * kAddThreads;
  const Gathered token{a.row_token, a.x_rows};
  for (int64_t i = int64_t{blockIdx.x} * kAddThreads + threadIdx.x; i < all; i += step) {
    const int row = static_cast<int>(i % matrix / a.k), column = static_cast<int>(i % a.k);
    const Piece rows(a, static_cast<int>(i / matrix), 0, 1, 1);
    double sum = 0;
    for (int r = rows.first; r < rows.end; ++r)
      if (const int x_row = token(r); x_row >= 0)
        sum += static_cast<const double*>(a.d_y)[int64_t{r} * a.n + row] *
               static_cast<const double*>(a.x)[int64_t{x_row} * a.k + column];
    static_cast<double*>(a.d_w)[i] = sum;
  }
}

}  // namespace moat::kernels::sm80
