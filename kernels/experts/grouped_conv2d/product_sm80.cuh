#pragma once

// Forward product and input gradient of a convolution over experts by mma.sync, and in float64.

#include "kernels/experts/grouped_conv2d/load_sm80.cuh"
#include "kernels/experts/grouped_gemm/epilogue.cuh"
#include "kernels/experts/grouped_gemm/mainloop_sm80.cuh"
#include "kernels/experts/grouped_gemm/tile_scheduler.cuh"
#include "kernels/vision/conv2d_finish.h"

namespace moat::kernels::sm80 {

template <int kRows, int kColumns>
using ImageTiles = TileScheduler<kRows, kColumns, 16, OfImages>;

// relu keeps NaN.
template <class C>
__device__ C activated(ConvActivation activation, C x) {
  return activation == ConvActivation::relu && x < 0 ? C(0) : x;
}

// Bias, residual, activation and mask of kColumns neighbouring channels of a pixel, and their
// store.
template <class T>
class ConvEpilogue {
 public:
  static constexpr int kColumns = 16 / sizeof(T);

  __device__ ConvEpilogue(const ConvProduct& a, int expert)
      : to_(static_cast<T*>(a.to)),
        residual_(static_cast<const T*>(a.residual)),
        mask_(static_cast<const T*>(a.mask)),
        bias_(a.bias ? static_cast<const float*>(a.bias) + int64_t{expert} * a.to_shape.channels
                     : nullptr),
        width_(a.to_shape.channels),
        activation_(a.activation),
        aligned_(takes_vectors<T>(a.to, width_)),
        aligned_residual_(takes_vectors<T>(a.residual, width_)),
        aligned_mask_(takes_vectors<T>(a.mask, width_)) {}

  __device__ void finish(int64_t pixel, int column, float (&sums)[kColumns]) const {
    const int count = width_ - column;
    if (bias_)
#pragma unroll
      for (int i = 0; i < kColumns; ++i)
        if (i < count) sums[i] += bias_[column + i];
    if (residual_) {
      const auto added = read(residual_ + pixel * width_ + column, count, aligned_residual_);
#pragma unroll
      for (int i = 0; i < kColumns; ++i) sums[i] += float(added.values[i]);
    }
    if (mask_) {
      const auto x = read(mask_ + pixel * width_ + column, count, aligned_mask_);
#pragma unroll
      for (int i = 0; i < kColumns; ++i) sums[i] = behind_relu(sums[i], float(x.values[i]));
    }
#pragma unroll
    for (float& v : sums) v = activated(activation_, v);
    store_values(to_ + pixel * width_ + column, sums, count, aligned_);
  }
  __device__ void clear(int64_t pixel, int column) const {
    const float zeros[kColumns]{};
    store_values(to_ + pixel * width_ + column, zeros, width_ - column, aligned_);
  }

 private:
  // The first `count` values side by side, and zeros.
  static __device__ Vector<T, kColumns> read(const T* from, int count, bool aligned) {
    if (aligned) return load<kColumns>(from);
    Vector<T, kColumns> values{};
#pragma unroll
    for (int i = 0; i < kColumns; ++i)
      if (i < count) values.values[i] = from[i];
    return values;
  }

  T* to_;
  const T *residual_, *mask_;
  const float* bias_;
  int width_;
  ConvActivation activation_;
  bool aligned_, aligned_residual_, aligned_mask_;
};

// Sums of a tile to its pixels; without sums, zeros.
template <class T, int kExtent>
__device__ void finish_tile(const ConvProduct& a, const PixelClass& pixels, const GroupedTile& tile,
                            const float* sums) {
  using Epilogue = ConvEpilogue<T>;
  constexpr int kColumns = Epilogue::kColumns, kChunks = kExtent / kColumns;
  const Epilogue epilogue(a, sums ? tile.expert : 0);
  for (int i = static_cast<int>(threadIdx.x); i < tile.rows * kChunks; i += kThreads) {
    const int r = i / kChunks, c = i % kChunks * kColumns;
    if (tile.column + c >= a.to_shape.channels) continue;
    const int64_t pixel = pixel_of(pixels, a.to_shape, tile.row + r);
    if (!sums) {
      epilogue.clear(pixel, tile.column + c);
      continue;
    }
    const float* from = sums + r * (kExtent + kGap) + c;
    float values[kColumns];
#pragma unroll
    for (int j = 0; j < kColumns; j += 4) {
      const float4 v = *reinterpret_cast<const float4*>(from + j);
      values[j] = v.x, values[j + 1] = v.y, values[j + 2] = v.z, values[j + 3] = v.w;
    }
    epilogue.finish(pixel, tile.column + c, values);
  }
}

// A persistent block takes every gridDim.x-th tile of kExtent pixels by kExtent channels, class
// after class. 2 · pixels · taps · c_in · c_out operations for all experts together; from memory
// comes every image once and goes every result, for a tap's values were read for the one before
// and lie in the L1 and L2 caches: of float32 4 (c_in + c_out) bytes per pixel.
template <class T, Precision kPrecision, FilterUse kUse, int kExtent, Access kAccess>
__global__ void __launch_bounds__(kThreads) grouped_conv2d_kernel(ConvProduct a) {
  unsigned char* ring = shared_memory<unsigned char>();
  const int classes = kUse == FilterUse::forward ? 1 : pixel_classes(a);
  int first = static_cast<int>(blockIdx.x);
  for (int number = 0; number < classes; ++number) {
    const PixelClass pixels = pixel_class(a, number);
    const int terms = pixels.taps() * a.from_shape.channels;
    ImageTiles<kExtent, kExtent> tiles(a.offsets, a.experts, a.n, a.to_shape.channels, first,
                                       static_cast<int>(gridDim.x), {pixels.pixels()});
    GroupedTile tile;
    while (tiles.next(tile)) {
      if (tile.expert == a.experts) {
        finish_tile<T, kExtent>(a, pixels, tile, nullptr);
        continue;
      }
      const T* filter = static_cast<const T*>(a.filters) + tile.expert * a.filter_stride;
      PixelLoader<T, kUse, kExtent, kAccess> left(a, pixels, tile.row, tile.rows);
      Accumulators<kExtent> sums;
      const int blocks = (terms + kDepth<T> - 1) / kDepth<T>;
      if constexpr (kUse == FilterUse::forward) {
        RowLoader<T, kExtent, kAccess> right(filter, terms, [&](int c) {
          return tile.column + c < a.to_shape.channels ? tile.column + c : -1;
        });
        multiply_tiles<T, kPrecision>(sums, left, right, blocks, ring);
      } else {
        TapLoader<T, kExtent, kAccess> right(filter, a, pixels, tile.column);
        multiply_tiles<T, kPrecision>(sums, left, right, blocks, ring);
      }
      share(sums, reinterpret_cast<float*>(ring));
      finish_tile<T, kExtent>(a, pixels, tile, reinterpret_cast<const float*>(ring));
    }
    first = tiles.left_over();
  }
}

// float64, for gradient checks: a thread per value of the result, tiles of 16 by 16.
// The sum of a pixel of the result, its row in a class's product, for one of its channels.
__device__ inline double pixel_sum(const ConvProduct& a, const PixelClass& pixels, int64_t expert,
                                   int row, int column) {
  const Conv2dGeometry& g = a.geometry;
  const ImageShape& from = a.from_shape;
  const bool forward = a.use == FilterUse::forward;
  const int64_t output = int64_t{g.r} * g.s * g.c_in;
  const int direction = forward ? 1 : -1;
  const Digits at = pixel_radix(pixels).digits(row);
  const double* filter = static_cast<const double*>(a.filters) + expert * a.filter_stride +
                         (forward ? column * output : column);
  double sum = 0;
  for (int t = 0; t < pixels.tap_rows; ++t)
    for (int s = 0; s < pixels.tap_columns; ++s) {
      const int y = pixels.from_top + at.middle * pixels.stride + direction * t,
                x = pixels.from_left + at.low * pixels.stride + direction * s;
      if (y < 0 || y >= from.height || x < 0 || x >= from.width) continue;
      const double* pixel = static_cast<const double*>(a.from) + at.high * from.size() +
                            (int64_t{y} * from.width + x) * from.channels;
      const double* tap = filter + (int64_t{pixels.first_u + t * pixels.tap_spacing} * g.s +
                                    pixels.first_v + s * pixels.tap_spacing) *
                                       g.c_in;
#pragma unroll 1
      for (int c = 0; c < from.channels; ++c) sum += pixel[c] * tap[forward ? c : c * output];
    }
  return sum;
}

__global__ void __launch_bounds__(kSide64* kSide64, 4) grouped_conv2d_f64_kernel(ConvProduct a) {
  const int width = a.to_shape.channels;
  int first = static_cast<int>(blockIdx.x);
  for (int number = 0; number < pixel_classes(a); ++number) {
    const PixelClass pixels = pixel_class(a, number);
    ImageTiles<kSide64, kSide64> tiles(a.offsets, a.experts, a.n, width, first,
                                       static_cast<int>(gridDim.x), {pixels.pixels()});
    GroupedTile tile;
    while (tiles.next(tile)) {
      const int i = static_cast<int>(threadIdx.x) / kSide64,
                column = tile.column + static_cast<int>(threadIdx.x) % kSide64;
      if (i >= tile.rows || column >= width) continue;
      const int64_t at = pixel_of(pixels, a.to_shape, tile.row + i) * width + column;
      double sum = 0;
      if (tile.expert < a.experts) {
        sum = pixel_sum(a, pixels, tile.expert, tile.row + i, column);
        if (a.bias)
          sum += static_cast<const double*>(a.bias)[int64_t{tile.expert} * width + column];
        if (a.residual) sum += static_cast<const double*>(a.residual)[at];
        if (a.mask) sum = behind_relu(sum, static_cast<const double*>(a.mask)[at]);
        sum = activated(a.activation, sum);
      }
      static_cast<double*>(a.to)[at] = sum;
    }
    first = tiles.left_over();
  }
}

}  // namespace moat::kernels::sm80
