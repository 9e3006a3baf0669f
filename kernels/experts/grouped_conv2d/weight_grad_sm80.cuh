#pragma once

// The weight gradient of a convolution over experts by mma.sync, and in float64: for expert e, a
// matrix [c_out, r · s · c_in], d_y^T times the patches of x, summed over the pixels of y of its
// images. Both operands lie with the pixels, the terms of the sums, one after another.

#include "kernels/experts/grouped_conv2d/load_sm80.cuh"
#include "kernels/experts/grouped_gemm/epilogue.cuh"
#include "kernels/experts/grouped_gemm/mainloop_sm80.cuh"
#include "kernels/experts/grouped_gemm/tile_scheduler.cuh"

namespace moat::kernels::sm80 {

// An expert's pixels are cut into `splits` pieces of whole blocks of the mainloop, so that there
// are enough tiles for the chip: the first piece's sums go to d_filters, those of piece s > 0 to
// partial[s - 1], and add_conv_pieces_kernel adds them in order.
struct ConvSplit {
  int splits;
  float* partial;  // [splits - 1, experts, c_out, r · s · c_in]
};

// The pixels of piece `split` of an expert, counted through all images.
struct PixelPiece {
  int first, end;

  __device__ PixelPiece(const GroupedConv2dWeightGrad& a, const ImageShape& y, int expert,
                        int split, int splits, int depth) {
    const int begin = segment_start(a.offsets, expert, a.n) * y.pixels();
    const int stop = max(begin, segment_start(a.offsets, expert + 1, a.n) * y.pixels());
    const int blocks = (stop - begin + depth - 1) / depth;
    const int64_t length = int64_t{(blocks + splits - 1) / splits} * depth;
    first = begin + static_cast<int>(min(split * length, int64_t{stop - begin}));
    end = begin + static_cast<int>(min((split + 1) * length, int64_t{stop - begin}));
  }
  __device__ bool exists() const { return first < end; }
};

// 2 · pixels · c_out · r · s · c_in operations for all experts together. A tile reads d_y and one
// tap or a few of x once, from memory for the first tile and from the L2 cache for the others.
template <class T, Precision kPrecision, int kExtent, Access kAccess>
__global__ void __launch_bounds__(kThreads)
    conv2d_weight_grad_kernel(GroupedConv2dWeightGrad a, ConvSplit split) {
  unsigned char* ring = shared_memory<unsigned char>();
  const ImageShape y = y_shape(a.geometry);
  const int rows = a.geometry.c_out, columns = a.geometry.r * a.geometry.s * a.geometry.c_in;
  const int row_tiles = (rows + kExtent - 1) / kExtent,
            column_tiles = (columns + kExtent - 1) / kExtent;
  const int64_t tiles = int64_t{a.experts} * split.splits * row_tiles * column_tiles;
  const bool aligned =
      takes_vectors<float>(a.d_filters, columns) && takes_vectors<float>(split.partial, columns);
  for (int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const int column = static_cast<int>(tile % column_tiles) * kExtent,
              row = static_cast<int>(tile / column_tiles % row_tiles) * kExtent,
              piece = static_cast<int>(tile / column_tiles / row_tiles % split.splits),
              expert = static_cast<int>(tile / column_tiles / row_tiles / split.splits);
    const PixelPiece pixels(a, y, expert, piece, split.splits, kDepth<T>);
    if (piece > 0 && !pixels.exists()) continue;
    TermLoader<T, kExtent, kAccess, Direct> left(
        static_cast<const T*>(a.d_y), rows, [&](int c) { return row + c < rows ? row + c : -1; },
        pixels.first, pixels.end, {});
    PatchLoader<T, kExtent, kAccess> right(a, y, column, pixels.first, pixels.end);
    Accumulators<kExtent> sums;
    multiply_tiles<T, kPrecision>(sums, left, right,
                                  (pixels.end - pixels.first + kDepth<T> - 1) / kDepth<T>, ring);
    const int64_t matrix = int64_t{rows} * columns;
    float* to = piece == 0 ? static_cast<float*>(a.d_filters)
                           : split.partial + (piece - 1) * (a.experts * matrix);
    to += expert * matrix;
    float* shared = reinterpret_cast<float*>(ring);
    share(sums, shared);
    constexpr int kChunks = kExtent / 4;
    for (int i = static_cast<int>(threadIdx.x); i < kExtent * kChunks; i += kThreads) {
      const int r = i / kChunks, c = i % kChunks * 4;
      if (row + r >= rows || column + c >= columns) continue;
      const float4 v = *reinterpret_cast<const float4*>(shared + r * (kExtent + kGap) + c);
      store_values(to + (int64_t{row} + r) * columns + column + c, {v.x, v.y, v.z, v.w},
                   columns - column - c, aligned);
    }
  }
}

// d_filters[e] += partial[0][e] + partial[1][e] + …, as many as the expert's pixels made. `blocks`
// blocks per expert.
__global__ void __launch_bounds__(kAddThreads)
    add_conv_pieces_kernel(GroupedConv2dWeightGrad a, ConvSplit split, int blocks, int depth) {
  const int64_t matrix = a.geometry.filter_size(), all = matrix * a.experts;
  const int expert = static_cast<int>(blockIdx.x) / blocks;
  const ImageShape y = y_shape(a.geometry);
  int pieces = 1;
  while (pieces < split.splits && PixelPiece(a, y, expert, pieces, split.splits, depth).exists())
    ++pieces;
  if (pieces == 1) return;
  float* d_filter = static_cast<float*>(a.d_filters) + expert * matrix;
  const float* partial = split.partial + expert * matrix;
  for (int64_t i = int64_t{blockIdx.x} % blocks * kAddThreads + threadIdx.x; i < matrix;
       i += int64_t{blocks} * kAddThreads) {
    float sum = d_filter[i];
    for (int piece = 1; piece < pieces; ++piece) sum += partial[(piece - 1) * all + i];
    d_filter[i] = sum;
  }
}

// float64, for gradient checks: a thread per value of d_filters.
__global__ void __launch_bounds__(kAddThreads)
    conv2d_weight_grad_f64_kernel(GroupedConv2dWeightGrad a) {
  const Conv2dGeometry& g = a.geometry;
  const ImageShape y = y_shape(g), x = x_shape(g);
  const Radix taps{g.s, g.c_in}, pixels{y.height, y.width};
  const int64_t columns = int64_t{g.r} * g.s * g.c_in, all = a.experts * g.filter_size();
  const int64_t step = int64_t{gridDim.x} * kAddThreads;
  for (int64_t i = int64_t{blockIdx.x} * kAddThreads + threadIdx.x; i < all; i += step) {
    const int64_t row = i / columns;  // of the bank
    const int output = static_cast<int>(row % g.c_out);
    const Digits tap = taps.digits(static_cast<int>(i % columns));
    const PixelPiece piece(a, y, static_cast<int>(row / g.c_out), 0, 1, 1);
    double sum = 0;
    for (int pixel = piece.first; pixel < piece.end; ++pixel) {
      const Digits at = pixels.digits(pixel);
      const int from_y = at.middle * g.stride + tap.high - g.padding,
                from_x = at.low * g.stride + tap.middle - g.padding;
      if (from_y < 0 || from_y >= x.height || from_x < 0 || from_x >= x.width) continue;
      sum += static_cast<const double*>(a.d_y)[int64_t{pixel} * g.c_out + output] *
             static_cast<const double*>(
                 a.x)[at.high * x.size() + (int64_t{from_y} * x.width + from_x) * g.c_in + tap.low];
    }
    static_cast<double*>(a.d_filters)[i] = sum;
  }
}

}  // namespace moat::kernels::sm80
