#pragma once

// What brings the operands of a convolution over experts into the ring of Hopper's products where
// steps of the sum are not of one tap (walk_sm90.cuh: where they are): pixels row by row, by
// cp.async, to the places where TMA's 128-byte swizzle would put them; filters by TMA in the
// forward product, where a filter is a row, and row by row in the input gradient.

#include "kernels/experts/grouped_conv2d/sm90.h"
#include "kernels/experts/grouped_gemm/mainloop_sm90.cuh"

namespace moat::kernels::sm90 {

// A launch of the kernel: one class of pixels.
struct PixelProduct {
  // forward: boxes of the tile's channels x kDepth terms; input gradient of walked images: of
  // kDepth output channels of a tap x 64 input channels
  TensorMap filters;
  TensorMap images;  // walked ones
  Destination to;
  ConvProduct a;
  PixelClass pixels;
  int terms;  // of a sum
};

// A tile of 128 pixels.
template <int kTileColumns, TileSchedule kTileSchedule>
struct PixelTile : Tile<128, kTileColumns, kTileSchedule> {
  using Scheduler = TileScheduler<128, kTileColumns, 16, OfImages>;
  static constexpr int kLoadRegisters = 88, kMultiplyRegisters = 208;
  static constexpr bool kWalks = false;
};

template <class T>
__device__ typename T::Scheduler tiles_of(const PixelProduct& p) {
  return {p.a.offsets,
          p.a.experts,
          p.a.n,
          p.a.to_shape.channels,
          static_cast<int>(blockIdx.x),
          static_cast<int>(gridDim.x),
          {p.pixels.pixels()}};
}

// Taps of one axis that meet an image of `extent` pixels: bit t is tap t, on pixel first + t, or
// with a direction of -1 on first - t.
template <int kDirection>
__device__ uint32_t taps_inside(int first, int extent, int taps) {
  const int from = kDirection > 0 ? -first : first - extent + 1,
            to = kDirection > 0 ? extent - first : first + 1;
  const auto below = [&](int t) { return (1u << min(max(t, 0), taps)) - 1; };
  return below(to) & ~below(from);
}

// The source pixel under tap (0, 0) of a pixel of the tile, its number through all images, and the
// rows (upper half) and columns of taps that are on a pixel: the others are in the padding.
struct SourcePixel {
  int number = 0;
  uint32_t taps = 0;

  template <FilterUse kUse>
  static __device__ SourcePixel at(const PixelProduct& p, const GroupedTile& tile, int row) {
    constexpr int kDirection = kUse == FilterUse::forward ? 1 : -1;
    if (row >= tile.rows) return {};
    const Digits to = pixel_radix(p.pixels).digits(tile.row + row);
    const int y = p.pixels.from_top + to.middle * p.pixels.stride,
              x = p.pixels.from_left + to.low * p.pixels.stride;
    const ImageShape& from = p.a.from_shape;
    return {(to.high * from.height + y) * from.width + x,
            taps_inside<kDirection>(y, from.height, p.pixels.tap_rows) << 16 |
                taps_inside<kDirection>(x, from.width, p.pixels.tap_columns)};
  }
};

// The taps of an input gradient: lines of a step are terms (tap row, tap column, output channel),
// each with the tile's input channels side by side, in squares of 64.
template <class T>
class TapLines {
 public:
  __device__ explicit TapLines(const PixelProduct& p)
      : p_(p),
        radix_(term_radix(p.pixels, p.a.from_shape.channels)),
        lines_(radix_.digits(kLines)) {}

  __device__ void start(const GroupedTile& tile) {
    const Conv2dGeometry& g = p_.a.geometry;
    filter_ = static_cast<const Bf16*>(p_.a.filters) + tile.expert * p_.a.filter_stride +
              (int64_t{p_.pixels.first_u} * g.s + p_.pixels.first_v) * g.c_in;
    column_ = tile.column;
    term_ = radix_.digits(thread_of_group() / 8);
  }

  __device__ void next(unsigned char* squares) {
    const Conv2dGeometry& g = p_.a.geometry;
#pragma unroll
    for (int i = 0; i < kDepth / kLines; ++i) {
      const int64_t row = int64_t{term_.low} * g.r * g.s +
                          int64_t{term_.high * p_.pixels.tap_spacing} * g.s +
                          term_.middle * p_.pixels.tap_spacing;
      copy_line<T::kColumns / 64>(
          squares, thread_of_group() / 8 + i * kLines,
          term_.high < p_.pixels.tap_rows ? filter_ + row * g.c_in : nullptr, column_, g.c_in,
          p_.a.filters);
      term_ = radix_.sum(term_, lines_);
    }
  }

 private:
  static constexpr int kLines = kGroup / 8;  // copied at a time
  const PixelProduct& p_;
  Radix radix_;
  Digits lines_, term_{};
  const Bf16* filter_ = nullptr;
  int column_ = 0;
};

// All 128 threads of the loading warpgroup, 16 bytes at a time: eight neighbouring lanes copy the
// 128 bytes of a pixel's step, each from a tap of its own. A warp has a quarter of the pixels, a
// lane eight of them; one of its lanes finds each.
template <class T, FilterUse kUse>
__device__ void load_pixels(const PixelProduct& p, const T& t) {
  static_assert(T::kRows == 4 * kWarp);
  constexpr int kDirection = kUse == FilterUse::forward ? 1 : -1, kCopies = kWarp / 4;
  const ImageShape& shape = p.a.from_shape;
  const int warp_row = thread_of_group() / kWarp * kWarp, chunk = lane() % 8;
  const int place = (warp_row + lane() / 8) * 128 + (chunk ^ lane() / 8) * 16;
  const Bf16* images = static_cast<const Bf16*>(p.a.from);
  const Radix radix = term_radix(p.pixels, shape.channels);
  const Digits step_digits = radix.digits(kDepth);
  const typename T::Operands ring = t.operands();
  const LateArrival arrival(ring);
  TileAnnouncer<T> tiles(t, tiles_of<T>(p));
  TapLines<T> taps(p);
  unsigned step = 0;
  GroupedTile tile;
  while (tiles.next(tile)) {
    if (tile.expert == p.a.experts) continue;
    const auto found = SourcePixel::at<kUse>(p, tile, warp_row + lane());
    SourcePixel pixels[kCopies];
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      pixels[i].number = __shfl_sync(kAllLanes, found.number, i * 4 + lane() / 8);
      pixels[i].taps = __shfl_sync(kAllLanes, found.taps, i * 4 + lane() / 8);
    }
    Digits term = radix.digits(chunk * 8);
    if constexpr (kUse == FilterUse::input_grad) taps.start(tile);
    for (int depth = 0; depth < p.terms; depth += kDepth, ++step) {
      ring.wait_empty(step);
      unsigned char* stage = ring.stage(step);
      if constexpr (kUse == FilterUse::forward) {
        if (thread_of_group() == 0) {
          ptx::mbarrier_arrive_expect_tx(ring.full(step), T::kWBytes);
          ptx::tma_load_3d(stage + T::kXBytes, &p.filters, ring.full(step), depth, tile.column,
                           tile.expert);
        }
        __syncwarp();
      } else {
        taps.next(stage + T::kXBytes);
      }
      const Bf16* from =
          images + (int64_t{kDirection} * (term.high * shape.width + term.middle) * shape.channels +
                    term.low);
      const int row = 16 + min(term.high, kMostTaps);  // behind the last row no bit is set
#pragma unroll
      for (int i = 0; i < kCopies; ++i) {
        const bool present = pixels[i].taps >> row & pixels[i].taps >> term.middle & 1;
        ptx::cp_async_l1(stage + (place ^ i % 2 * 64) + i * 512,
                         from + int64_t{pixels[i].number} * shape.channels, present ? 16 : 0);
      }
      term = radix.sum(term, step_digits);
      arrival.issued(step);
    }
  }
  arrival.finish(step);
}

}  // namespace moat::kernels::sm90
