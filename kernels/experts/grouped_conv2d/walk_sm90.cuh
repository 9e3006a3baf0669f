#pragma once

// Pixels whose channels are whole steps of the sum, brought by TMA: for a tap and 64 of its
// channels one copy walks over the pixels of a tile (kernels/cuda/tensor_map.h, WalkedImages). A
// tile may end in the next expert's images: their pixels only reach rows that are not stored.

#include "kernels/experts/grouped_conv2d/load_sm90.cuh"

namespace moat::kernels::sm90 {

template <int kTileRows, int kTileColumns, TileSchedule kTileSchedule>
struct WalkTile : Tile<kTileRows, kTileColumns, kTileSchedule> {
  using Scheduler = TileScheduler<kTileRows, kTileColumns, 16, OfImages>;
  static constexpr bool kWalks = true;
};

// The source pixel of a class's first pixel that copies start at. In an input gradient tap (t, s)
// lies t above and s to the left of tap (0, 0), and copies only move right and down: the last
// tap's.
struct WalkStart {
  int x, y;
};
constexpr WalkStart walk_start(const PixelClass& c, FilterUse use) {
  const bool back = use == FilterUse::input_grad;
  return {c.from_left - (back ? c.tap_columns - 1 : 0), c.from_top - (back ? c.tap_rows - 1 : 0)};
}

// The images as the pixels of a class walk over them.
inline WalkedImages walked_images(const ConvProduct& a, const PixelClass& c, int box_pixels) {
  const WalkStart start = walk_start(c, a.use);
  return {.base = a.from,
          .n = a.n,
          .height = a.from_shape.height,
          .width = a.from_shape.width,
          .channels = a.from_shape.channels,
          .first_x = start.x,
          .first_y = start.y,
          .columns = c.columns,
          .rows = c.rows,
          .stride = c.stride,
          .box_channels = kDepth,
          .box_pixels = box_pixels};
}

// The filters of tap (row, column), of the channels from `channel` on.
template <class T, FilterUse kUse>
__device__ void load_filters(const PixelProduct& p, const GroupedTile& tile, int row, int column,
                             int channel, unsigned char* stage, uint64_t* full) {
  if constexpr (kUse == FilterUse::forward) {
    const int tap = row * p.pixels.tap_columns + column;
    ptx::tma_load_3d(stage, &p.filters, full, tap * p.a.from_shape.channels + channel, tile.column,
                     tile.expert);
  } else {
    const int tap = (p.pixels.first_u + row * p.pixels.tap_spacing) * p.a.geometry.s +
                    p.pixels.first_v + column * p.pixels.tap_spacing;
    for (int c = 0; c < T::kColumns; c += 64)
      ptx::tma_load_4d(stage + c * kDepth * 2, &p.filters, full, tile.column + c, tap, channel,
                       tile.expert);
  }
}

// What is added to a tile's pixels and what masks them: far away when the products are there,
// unless it has been asked for. By a warp, a pixel of each lane at a time.
template <class T>
__device__ void prefetch_behind(const PixelProduct& p, const GroupedTile& tile) {
  if (!p.a.residual && !p.a.mask) return;
  constexpr int kLine = 128 / sizeof(Bf16);
  const int columns = min(T::kColumns, p.to.width - tile.column);
  for (int row = lane(); row < tile.rows; row += kWarp) {
    const int64_t at = pixel_of(p.pixels, p.a.to_shape, tile.row + row) * p.to.width + tile.column;
    for (int c = 0; c < columns; c += kLine) {
      if (p.a.residual) ptx::prefetch_l2(static_cast<const Bf16*>(p.a.residual) + at + c);
      if (p.a.mask) ptx::prefetch_l2(static_cast<const Bf16*>(p.a.mask) + at + c);
    }
  }
}

// One warp, one lane of it.
template <class T, FilterUse kUse>
__device__ void load_walked(const PixelProduct& p, const T& t) {
  const PixelClass& c = p.pixels;
  const bool back = kUse == FilterUse::input_grad;
  const WalkStart start = walk_start(c, kUse);
  const typename T::Operands ring = t.operands();
  TileAnnouncer<T> tiles(t, tiles_of<T>(p));
  unsigned step = 0;
  GroupedTile tile;
  while (tiles.next(tile)) {
    if (tile.expert == p.a.experts) continue;
    prefetch_behind<T>(p, tile);
    const Digits first = pixel_radix(c).digits(tile.row);
    const int x = start.x + first.low * c.stride, y = start.y + first.middle * c.stride;
    for (int row = 0; row < c.tap_rows; ++row)
      for (int column = 0; column < c.tap_columns; ++column)
        for (int channel = 0; channel < p.a.from_shape.channels; channel += kDepth, ++step) {
          ring.wait_empty(step);
          if (lane() == 0) {
            uint64_t* full = ring.full(step);
            unsigned char* stage = ring.stage(step);
            ptx::mbarrier_arrive_expect_tx(full, T::kXBytes + T::kWBytes);
            ptx::tma_load_pixels(stage, &p.images, full, channel, x, y, first.high,
                                 static_cast<uint16_t>(back ? c.tap_columns - 1 - column : column),
                                 static_cast<uint16_t>(back ? c.tap_rows - 1 - row : row));
            load_filters<T, kUse>(p, tile, row, column, channel, stage + T::kXBytes, full);
          }
          __syncwarp();
        }
  }
}

}  // namespace moat::kernels::sm90
