#pragma once

#include "kernels/experts/grouped_gemm/shared_tile.cuh"

namespace moat::kernels::sm80 {

inline constexpr int kThreads = 128;
inline constexpr int kAddThreads = 256;  // of blocks that go over a weight gradient value by value
inline constexpr int kSide64 = 16;       // of a tile in float64, where each thread has a value

// How a 16-byte chunk of a tile comes from global memory: by one copy that needs 16-byte alignment,
// or value by value.
enum class Access { chunks, values };

// Starts copying the first `count` values of a chunk (all of them, or none, with Access::chunks);
// the others become zeros.
template <Access kAccess, class T>
__device__ void fetch(unsigned char* to, const T* from, int count) {
  constexpr int kValues = 16 / sizeof(T);
  if constexpr (kAccess == Access::chunks) {
    ptx::cp_async<16>(to, from, count > 0 ? 16 : 0);
  } else if constexpr (sizeof(T) == 4) {
#pragma unroll
    for (int i = 0; i < kValues; ++i)
      ptx::cp_async<4>(to + 4 * i, i < count ? from + i : from, i < count ? 4 : 0);
  } else {  // too small for cp.async
    T values[kValues];
#pragma unroll
    for (int i = 0; i < kValues; ++i) values[i] = i < count ? from[i] : T();
#pragma unroll
    for (int i = 0; i < kValues; ++i) reinterpret_cast<T*>(to)[i] = values[i];
  }
}

// Copies a tile whose rows are rows of the operand: k lies side by side, and each call takes the
// next kDepth of it. Rows that do not exist are zeros.
template <class T, int kExtent, Access kAccess>
class RowLoader {
 public:
  using Tile = SharedTile<T, Major::k, kExtent>;

  // row_at(i): the operand's row in row i of the tile, or -1.
  template <class RowAt>
  __device__ RowLoader(const T* operand, int depth, RowAt&& row_at)
      : column_(static_cast<int>(threadIdx.x) % Tile::kChunks * Tile::kChunk), depth_(depth) {
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const int64_t row = row_at(row_of(i));
      rows_[i] = operand + (row < 0 ? 0 : row * depth);
      present_ |= unsigned{row >= 0} << i;
    }
  }

  __device__ void next(unsigned char* tile) {
    const int left = depth_ - column_;
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const int count = present_ >> i & 1 ? left : 0;
      fetch<kAccess>(tile + Tile::place(row_of(i), static_cast<int>(threadIdx.x) % Tile::kChunks),
                     count > 0 ? rows_[i] + column_ : rows_[i], count);
    }
    column_ += kDepth<T>;
  }

 private:
  static constexpr int kCopies = Tile::kRows * Tile::kChunks / kThreads;
  static __device__ int row_of(int i) {
    return static_cast<int>(threadIdx.x) / Tile::kChunks + i * (kThreads / Tile::kChunks);
  }

  const T* rows_[kCopies];
  unsigned present_ = 0;
  int column_, depth_;
};

// Rows of an operand by their number, and through an index.
struct Direct {
  static constexpr int kAhead = 0;  // calls between looking a row up and copying it
  __device__ int operator()(int row) const { return row; }
};
struct Gathered {
  static constexpr int kAhead = 1;  // so that copies need not wait for the index
  const int32_t* tokens;            // nullptr: by number
  int x_rows;
  __device__ int operator()(int row) const {
    const int token = tokens ? tokens[row] : row;
    return token >= 0 && token < x_rows ? token : -1;
  }
};

// Copies a tile whose rows are terms of the sums: each call takes the next kDepth rows from `row`
// up to `end`.
template <class T, int kExtent, Access kAccess, class Rows>
class TermLoader {
 public:
  using Tile = SharedTile<T, Major::mn, kExtent>;

  // column_at(i): the operand's column in column i of the tile, or -1. A chunk's columns are
  // neighbours in both.
  template <class ColumnAt>
  __device__ TermLoader(const T* operand, int columns, ColumnAt&& column_at, int row, int end,
                        Rows rows)
      : operand_(operand),
        stride_(columns),
        row_(row + static_cast<int>(threadIdx.x) / Tile::kChunks),
        end_(end),
        row_at_(rows) {
    const int column = column_at(chunk() * Tile::kChunk);
    count_ = column < 0 ? 0 : columns - column;
    if (count_ > 0) operand_ += column;
    if constexpr (Rows::kAhead == 1) look_up();
  }

  __device__ void next(unsigned char* tile) {
    if constexpr (Rows::kAhead == 0) look_up();
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const int r = static_cast<int>(threadIdx.x) / Tile::kChunks + i * kRowsPerCopy;
      const bool present = found_[i] >= 0;
      fetch<kAccess>(tile + Tile::place(r, chunk()),
                     present ? operand_ + found_[i] * stride_ : operand_, present ? count_ : 0);
    }
    row_ += kDepth<T>;
    if constexpr (Rows::kAhead == 1) look_up();
  }

 private:
  static constexpr int kRowsPerCopy = kThreads / Tile::kChunks;
  static constexpr int kCopies = Tile::kRows / kRowsPerCopy;
  static __device__ int chunk() { return static_cast<int>(threadIdx.x) % Tile::kChunks; }
  __device__ void look_up() {
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const int row = row_ + i * kRowsPerCopy;
      found_[i] = row < end_ ? row_at_(row) : -1;
    }
  }

  const T* operand_;
  int64_t stride_;
  int row_, end_, count_, found_[kCopies];
  Rows row_at_;
};

}  // namespace moat::kernels::sm80
