#pragma once

#include "kernels/experts/grouped_gemm/epilogue.cuh"
#include "kernels/experts/grouped_gemm/mainloop_sm80.cuh"
#include "kernels/experts/grouped_gemm/tile_scheduler.cuh"

namespace moat::kernels::sm80 {

// Calls finish(r, c) for each row of the tile and each group of Epilogue::kColumns columns of y
// that begins inside y, r and c counted from the tile's first; neighbouring threads take
// neighbouring columns.
template <class T, class Finish>
__device__ void for_each_chunk(const GroupedTile& tile, int first, int columns, int width,
                               Finish&& finish) {
  constexpr int kColumns = Epilogue<T>::kColumns;
  const int chunks = columns / kColumns;
  for (int i = static_cast<int>(threadIdx.x); i < tile.rows * chunks; i += kThreads) {
    const int r = i / chunks, c = i % chunks * kColumns;
    if (first + c < width) finish(r, c);
  }
}

template <class T, int kExtent>
__device__ void finish_tile(const GroupedGemm& a, const GroupedTile& tile, const float* sums) {
  const Epilogue<T> epilogue(a, tile.expert);
  constexpr int kColumns = epilogue.kColumns;
  const auto read = [&](float(&to)[kColumns], int r, int c) {
    const float* from = sums + r * (kExtent + kGap) + c;
#pragma unroll
    for (int i = 0; i < kColumns; i += 4) {
      const float4 v = *reinterpret_cast<const float4*>(from + i);
      to[i] = v.x, to[i + 1] = v.y, to[i + 2] = v.z, to[i + 3] = v.w;
    }
  };
  if (a.activation != ExpertActivation::swiglu)
    return for_each_chunk<T>(tile, tile.column, kExtent, a.n, [&](int r, int c) {
      float v[kColumns];
      read(v, r, c);
      epilogue.finish(int64_t{tile.row} + r, tile.column + c, v);
    });
  const int first = tile.column / 2;
  for_each_chunk<T>(tile, first, kExtent / 2, a.n / 2, [&](int r, int c) {
    const int at = c / 8 * 16 + c % 8;
    float gates[kColumns], values[kColumns];
    read(gates, r, at);
    read(values, r, at + 8);
    epilogue.finish(int64_t{tile.row} + r, first + c, gates, values);
  });
}

template <class T, int kExtent>
__device__ void clear_tile(const GroupedGemm& a, const GroupedTile& tile) {
  const Epilogue<T> epilogue(a, 0);
  const int part = a.activation == ExpertActivation::swiglu ? 2 : 1, first = tile.column / part;
  for_each_chunk<T>(tile, first, kExtent / part, a.n / part,
                    [&](int r, int c) { epilogue.clear(int64_t{tile.row} + r, first + c); });
}

// A persistent block takes every gridDim.x-th tile of kExtent rows by kExtent columns. Per tile and
// step of k it reads 2 · kExtent values for kExtent^2 products: the L2 cache serves all but the
// first of them, so that large products are bound by the tensor cores, short ones by writing y.
template <class T, Precision kPrecision, Transpose kTransposeW, int kExtent, Access kAccess>
__global__ void __launch_bounds__(kThreads) grouped_gemm_kernel(GroupedGemm a) {
  unsigned char* ring = shared_memory<unsigned char>();
  const bool gated = a.activation == ExpertActivation::swiglu;
  const Gathered rows{a.row_token, a.x_rows};
  TileScheduler<kExtent, kExtent> tiles(a.offsets, a.experts, a.rows, a.n,
                                        static_cast<int>(blockIdx.x), static_cast<int>(gridDim.x));
  GroupedTile tile;
  while (tiles.next(tile)) {
    if (tile.expert == a.experts) {
      clear_tile<T, kExtent>(a, tile);
      continue;
    }
    const T* w = static_cast<const T*>(a.w) + int64_t{tile.expert} * a.n * a.k;
    const auto column_at = [&](int c) {
      const int column = gated ? gated_column(tile.column / 2, c, a.n / 2) : tile.column + c;
      return column < a.n ? column : -1;
    };
    RowLoader<T, kExtent, kAccess> left(static_cast<const T*>(a.x), a.k, [&](int i) {
      return i < tile.rows ? rows(tile.row + i) : -1;
    });
    Accumulators<kExtent> sums;
    const int blocks = (a.k + kDepth<T> - 1) / kDepth<T>;
    if constexpr (kTransposeW == Transpose::yes) {
      RowLoader<T, kExtent, kAccess> right(w, a.k, column_at);
      multiply_tiles<T, kPrecision>(sums, left, right, blocks, ring);
    } else {
      TermLoader<T, kExtent, kAccess, Direct> right(w, a.n, column_at, 0, a.k, {});
      multiply_tiles<T, kPrecision>(sums, left, right, blocks, ring);
    }
    share(sums, reinterpret_cast<float*>(ring));
    finish_tile<T, kExtent>(a, tile, reinterpret_cast<const float*>(ring));
  }
}

// float64, for gradient checks: a thread per value of y, tiles of 16 by 16.
__global__ void __launch_bounds__(kSide64* kSide64) grouped_gemm_f64_kernel(GroupedGemm a) {
  const int width = activated_width(a.activation, a.n);
  const Gathered token{a.row_token, a.x_rows};
  const int64_t w_row = a.transpose_w == Transpose::yes ? 1 : a.n,
                w_column = a.transpose_w == Transpose::yes ? a.k : 1;
  TileScheduler<kSide64, kSide64> tiles(a.offsets, a.experts, a.rows, width,
                                        static_cast<int>(blockIdx.x), static_cast<int>(gridDim.x));
  GroupedTile tile;
  while (tiles.next(tile)) {
    const int i = static_cast<int>(threadIdx.x) / kSide64,
              j = tile.column + static_cast<int>(threadIdx.x) % kSide64;
    if (i >= tile.rows || j >= width) continue;
    const int64_t row = tile.row + i, e = tile.expert;
    const int x_row = e < a.experts ? token(tile.row + i) : -1;
    const auto sum = [&](int column) {
      double total =
          a.bias && e < a.experts ? static_cast<const double*>(a.bias)[e * a.n + column] : 0.0;
      const double* x = static_cast<const double*>(a.x) + int64_t{max(x_row, 0)} * a.k;
      const double* w = static_cast<const double*>(a.w) + e * a.n * a.k + column * w_column;
      for (int p = 0; x_row >= 0 && p < a.k; ++p) total += x[p] * w[p * w_row];
      if (a.pre) static_cast<double*>(a.pre)[row * a.n + column] = total;
      return total;
    };
    double& y = static_cast<double*>(a.y)[row * width + j];
    if (a.activation == ExpertActivation::swiglu) {
      const double gate = sum(j), value = sum(width + j);
      y = Silu<double>::value(gate) * value;
    } else {
      const double pre = sum(j);
      with_function<double>(a.activation, [&]<class Function>() { y = Function::value(pre); });
    }
  }
}

}  // namespace moat::kernels::sm80
