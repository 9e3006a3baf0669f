#pragma once

// How a CUDA block walks over a head: it owns a tile of rows (queries, or keys), and meets the
// other rows tile by tile in shared memory.

#include <numbers>

#include "kernels/attention/attention.h"
#include "kernels/cuda/vector.cuh"
#include "kernels/experts/grouped_gemm/load_sm80.cuh"

namespace moat::kernels::attention_tiles {

using sm80::Access;

enum class Part { q, k, v };

// The block's image, head and first row of its own. Blocks of one head are neighbours, so that they
// find its other rows in L2.
struct Place {
  int64_t image, head, image_head;
  int first;

  __device__ Place(int tokens, int heads, int tile_rows) {
    const int tiles = (tokens + tile_rows - 1) / tile_rows;
    image_head = blockIdx.x / static_cast<unsigned>(tiles);
    first = static_cast<int>(blockIdx.x % static_cast<unsigned>(tiles)) * tile_rows;
    image = image_head / heads;
    head = image_head % heads;
  }
};

// A head's [tokens, width], with `leading` values from row to row.
template <class T>
struct HeadRows {
  T* rows;
  int leading;
  int tokens, width;
};
template <class T, class Args>
__device__ HeadRows<T> rows_of_qkv(const Args& a, T* qkv, const Place& at, Part part) {
  const int leading = 3 * a.heads * a.head_width;
  return {qkv + at.image * a.tokens * int64_t{leading} +
              (static_cast<int>(part) * a.heads + at.head) * a.head_width,
          leading, a.tokens, a.head_width};
}
template <class T, class Args>
__device__ HeadRows<T> rows_of_y(const Args& a, T* y, const Place& at) {
  const int leading = a.heads * a.head_width;
  return {y + at.image * a.tokens * int64_t{leading} + at.head * a.head_width, leading, a.tokens,
          a.head_width};
}

// P: FmaProducts or MmaProducts, below `products`.
template <class P>
__device__ int padded(int width) {
  return (width + P::kPadding - 1) / P::kPadding * P::kPadding;
}

// f(row, column) for the chunks of 16 bytes of a tile, spread over the threads as over rows of the
// greatest width, so that nothing is divided by a number that the compiler does not know.
template <class P, int kRows, class F>
__device__ void for_each_chunk(int width, F&& f) {
  static_assert(P::kThreads % P::kChunks == 0);
  const int thread = static_cast<int>(threadIdx.x);
  const int column = thread % P::kChunks * kVectorSize<typename P::Value>;
  if (column >= padded<P>(width)) return;
  for (int row = thread / P::kChunks; row < kRows; row += P::kThreads / P::kChunks) f(row, column);
}

// Starts copying kRows rows from `first` on; zeros where there is no row, and behind the row's end
// up to the padding of the products.
template <class P, int kRows>
__device__ void load_tile(typename P::Value* tile, const HeadRows<const typename P::Value>& from,
                          int first, Access access) {
  for_each_chunk<P, kRows>(from.width, [&](int row, int column) {
    const int token = first + row, count = token < from.tokens ? from.width - column : 0;
    const auto* source = from.rows + (count > 0 ? token * int64_t{from.leading} + column : 0);
    auto* to = reinterpret_cast<unsigned char*>(tile + row * P::kPitch + column);
    if (access == Access::chunks)
      sm80::fetch<Access::chunks>(to, source, count);
    else
      sm80::fetch<Access::values>(to, source, count);
  });
}

template <class T, class C>
__device__ void store_pair(T* to, C a, C b) {
  if constexpr (sizeof(T) == 2)
    *reinterpret_cast<uint32_t*>(to) = ptx::pack_bf16(a, b);
  else
    to[0] = a, to[1] = b;
}

// tile = sums · factor_of(i) for the i-th row of a thread, rounded; then to memory from row `first`
// on. Every row of the tile must have been read.
template <class P, class Factor>
__device__ void store_tile(const HeadRows<typename P::Value>& to, int first,
                           const typename P::Wide& sums, Factor&& factor_of,
                           typename P::Value* tile, Access access) {
  using T = typename P::Value;
  const int width = padded<P>(to.width);
#pragma unroll
  for (int i = 0; i < P::kMyRows; ++i)
#pragma unroll
    for (int c = 0; c < P::kMyColumns; c += 2)
      if (P::column(c) < width)
        store_pair(tile + P::row(i) * P::kPitch + P::column(c), sums.at(i, c) * factor_of(i),
                   sums.at(i, c + 1) * factor_of(i));
  __syncthreads();
  for_each_chunk<P, P::kRows>(to.width, [&](int row, int column) {
    constexpr int kChunk = kVectorSize<T>;
    if (first + row >= to.tokens || column >= to.width) return;
    T* out = to.rows + (first + row) * int64_t{to.leading} + column;
    const T* from = tile + row * P::kPitch + column;
    if (access == Access::chunks)
      store(out, load<kChunk>(from));
    else
      for (int n = 0; n < kChunk && column + n < to.width; ++n) out[n] = from[n];
  });
}

// Shared memory: tiles of the block's own rows, two of other rows, what the products need besides,
// and two numbers for each of the other rows.
template <class P, int kOwnTiles>
struct SharedTiles {
  using T = typename P::Value;
  using C = typename P::Sum;
  static constexpr int kOwn = P::kRows * P::kPitch, kOther = P::kOthers * P::kPitch;

  T *own[kOwnTiles], *other[2];
  C *scratch, *of_others[2];

  __device__ SharedTiles() {
    T* next = shared_memory<T>();
    for (T*& tile : own) tile = next, next += kOwn;
    for (T*& tile : other) tile = next, next += kOther;
    scratch = reinterpret_cast<C*>(next);
    of_others[0] = scratch + P::kScratch;
    of_others[1] = of_others[0] + P::kOthers;
  }
  static constexpr size_t bytes() {
    return (kOwnTiles * kOwn + 2 * kOther) * sizeof(T) + (P::kScratch + 2 * P::kOthers) * sizeof(C);
  }
};

}  // namespace moat::kernels::attention_tiles
