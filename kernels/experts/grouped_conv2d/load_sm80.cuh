#pragma once

// What brings the tiles of a convolution over experts into shared memory: terms that fall outside
// an image are zeros there. Access::chunks needs channels in whole, aligned chunks of 16 bytes, so
// that a chunk belongs to one tap; with Access::values every value has a tap of its own.

#include "kernels/experts/grouped_conv2d/product.h"
#include "kernels/experts/grouped_gemm/load_sm80.cuh"

namespace moat::kernels::sm80 {

// Starts copying value `i` of a chunk; nullptr makes it zero.
template <class T>
__device__ void fetch_value(unsigned char* to, int i, const T* from, const T* anything) {
  if constexpr (sizeof(T) == 4)
    ptx::cp_async<4>(to + 4 * i, from ? from : anything, from ? 4 : 0);
  else  // too small for cp.async
    reinterpret_cast<T*>(to)[i] = from ? *from : T();
}

// Rows of the product: pixels of the result, each with its taps and channels side by side.
template <class T, FilterUse kUse, int kExtent, Access kAccess>
class PixelLoader {
 public:
  using Tile = SharedTile<T, Major::k, kExtent>;

  __device__ PixelLoader(const ConvProduct& a, const PixelClass& pixels, int row, int rows)
      : images_(static_cast<const T*>(a.from)),
        shape_(a.from_shape),
        radix_(term_radix(pixels, a.from_shape.channels)),
        tap_rows_(pixels.tap_rows),
        term_(radix_.digits(chunk() * Tile::kChunk)),
        step_(radix_.digits(kDepth<T>)) {
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      y_[i] = kNowhere, x_[i] = 0, pixel_[i] = 0;
      if (row_of(i) >= rows) continue;
      const Digits at = pixel_radix(pixels).digits(row + row_of(i));
      y_[i] = pixels.from_top + at.middle * pixels.stride;
      x_[i] = pixels.from_left + at.low * pixels.stride;
      pixel_[i] = (at.high * shape_.height + y_[i]) * shape_.width + x_[i];
    }
  }

  __device__ void next(unsigned char* tile) {
    if constexpr (kAccess == Access::chunks) {
#pragma unroll
      for (int i = 0; i < kCopies; ++i) {
        const T* from = value_at(i, term_);
        ptx::cp_async_l1(tile + Tile::place(row_of(i), chunk()),  // other taps read it as well
                         from ? from : images_, from ? 16 : 0);
      }
    } else {
      Digits term = term_;
      for (int value = 0; value < Tile::kChunk; ++value) {
#pragma unroll
        for (int i = 0; i < kCopies; ++i)
          fetch_value(tile + Tile::place(row_of(i), chunk()), value, value_at(i, term), images_);
        term = radix_.sum(term, {0, 0, 1});
      }
    }
    term_ = radix_.sum(term_, step_);
  }

 private:
  static constexpr int kCopies = Tile::kRows * Tile::kChunks / kThreads;
  static constexpr int kDirection = kUse == FilterUse::forward ? 1 : -1;
  static constexpr int kNowhere = -(1 << 30);
  static __device__ int chunk() { return static_cast<int>(threadIdx.x) % Tile::kChunks; }
  static __device__ int row_of(int i) {
    return static_cast<int>(threadIdx.x) / Tile::kChunks + i * (kThreads / Tile::kChunks);
  }
  // nullptr: zero.
  __device__ const T* value_at(int i, const Digits& term) const {
    const int y = y_[i] + kDirection * term.high, x = x_[i] + kDirection * term.middle;
    const int pixel = pixel_[i] + kDirection * (term.high * shape_.width + term.middle);
    const bool present =
        y >= 0 && y < shape_.height && x >= 0 && x < shape_.width && term.high < tap_rows_;
    return present ? images_ + (int64_t{pixel} * shape_.channels + term.low) : nullptr;
  }

  const T* images_;
  ImageShape shape_;
  Radix radix_;
  int tap_rows_;
  Digits term_, step_;
  // The source pixel of tap (0, 0), in its image and counted through all of them.
  int y_[kCopies], x_[kCopies], pixel_[kCopies];
};

// The filter of an input gradient, terms above each other: (tap row, tap column, output channel),
// each with the input channels side by side. Calls take the next kDepth terms.
template <class T, int kExtent, Access kAccess>
class TapLoader {
 public:
  using Tile = SharedTile<T, Major::mn, kExtent>;

  __device__ TapLoader(const T* filter, const ConvProduct& a, const PixelClass& pixels, int column)
      : filter_(filter +
                (int64_t{pixels.first_u} * a.geometry.s + pixels.first_v) * a.geometry.c_in),
        tap_row_(int64_t{pixels.tap_spacing} * a.geometry.s * a.geometry.c_in),
        tap_column_(int64_t{pixels.tap_spacing} * a.geometry.c_in),
        output_(int64_t{a.geometry.r} * a.geometry.s * a.geometry.c_in),
        radix_(term_radix(pixels, a.from_shape.channels)),
        tap_rows_(pixels.tap_rows),
        term_(radix_.digits(row_of(0))),
        step_(radix_.digits(kRowsPerCopy)),
        count_(a.geometry.c_in - column - chunk() * Tile::kChunk) {
    if (count_ > 0) filter_ += column + chunk() * Tile::kChunk;
  }

  __device__ void next(unsigned char* tile) {
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const bool present = term_.high < tap_rows_ && count_ > 0;
      fetch<kAccess>(tile + Tile::place(row_of(i), chunk()),
                     present ? filter_ + (term_.high * tap_row_ + term_.middle * tap_column_ +
                                          term_.low * output_)
                             : filter_,
                     present ? count_ : 0);
      term_ = radix_.sum(term_, step_);
    }
  }

 private:
  static constexpr int kRowsPerCopy = kThreads / Tile::kChunks;
  static constexpr int kCopies = Tile::kRows / kRowsPerCopy;
  static __device__ int chunk() { return static_cast<int>(threadIdx.x) % Tile::kChunks; }
  static __device__ int row_of(int i) {
    return static_cast<int>(threadIdx.x) / Tile::kChunks + i * kRowsPerCopy;
  }

  const T* filter_;
  int64_t tap_row_, tap_column_, output_;  // from one to the next
  Radix radix_;
  int tap_rows_;
  Digits term_, step_;  // of this thread's next row, and from one to the next
  int count_;
};

// Patches of x under the pixels of y, the terms of a weight gradient: pixels above each other, each
// with the taps and input channels from `column` on side by side. Calls take the next kDepth of
// pixels [row, end).
template <class T, int kExtent, Access kAccess>
class PatchLoader {
 public:
  using Tile = SharedTile<T, Major::mn, kExtent>;

  __device__ PatchLoader(const GroupedConv2dWeightGrad& a, const ImageShape& y, int column, int row,
                         int end)
      : x_(static_cast<const T*>(a.x)),
        shape_(x_shape(a.geometry)),
        stride_(a.geometry.stride),
        padding_(a.geometry.padding),
        tap_rows_(a.geometry.r),
        taps_{a.geometry.s, a.geometry.c_in},
        tap_(taps_.digits(column + chunk() * Tile::kChunk)),
        pixels_{y.height, y.width},
        at_(pixels_.digits(row + row_of(0))),
        step_(pixels_.digits(kRowsPerCopy)),
        left_(end - row - row_of(0)) {}

  __device__ void next(unsigned char* tile) {
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      unsigned char* to = tile + Tile::place(row_of(i), chunk());
      if constexpr (kAccess == Access::chunks) {
        const T* from = patch_value(tap_);
        ptx::cp_async_l1(to, from ? from : x_, from ? 16 : 0);
      } else {
        Digits tap = tap_;
        for (int value = 0; value < Tile::kChunk; ++value) {
          fetch_value(to, value, patch_value(tap), x_);
          tap = taps_.sum(tap, {0, 0, 1});
        }
      }
      at_ = pixels_.sum(at_, step_);
      left_ -= kRowsPerCopy;
    }
  }

 private:
  static constexpr int kRowsPerCopy = kThreads / Tile::kChunks;
  static constexpr int kCopies = Tile::kRows / kRowsPerCopy;
  static __device__ int chunk() { return static_cast<int>(threadIdx.x) % Tile::kChunks; }
  static __device__ int row_of(int i) {
    return static_cast<int>(threadIdx.x) / Tile::kChunks + i * kRowsPerCopy;
  }
  // nullptr: zero.
  __device__ const T* patch_value(const Digits& tap) const {
    const int y = at_.middle * stride_ + tap.high - padding_,
              x = at_.low * stride_ + tap.middle - padding_;
    const bool present = left_ > 0 && tap.high < tap_rows_ && y >= 0 && y < shape_.height &&
                         x >= 0 && x < shape_.width;
    return present ? x_ + (at_.high * shape_.size() +
                           (int64_t{y} * shape_.width + x) * shape_.channels + tap.low)
                   : nullptr;
  }

  const T* x_;
  ImageShape shape_;
  int stride_, padding_, tap_rows_;
  Radix taps_;
  Digits tap_;
  Radix pixels_;
  Digits at_, step_;  // of this thread's next row, and from one to the next
  int left_;          // rows, from there on
};

}  // namespace moat::kernels::sm80
