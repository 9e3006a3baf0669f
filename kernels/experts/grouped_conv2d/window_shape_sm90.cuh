#pragma once

// Where a convolution in windows (window_sm90.cuh) has its pixels and filters.

#include "kernels/experts/grouped_conv2d/product.h"
#include "kernels/experts/grouped_gemm/ring_sm90.cuh"
#include "kernels/experts/grouped_gemm/tile_scheduler.cuh"

namespace moat::kernels::sm90 {

struct Window {
  static constexpr int kRows = 128;  // positions of a tile

  int columns;      // written, and zeros behind them: 16, 32 or 64
  int side;         // of a filter
  int line, image;  // positions of a row, of an image
  int lead, positions;
  int planes;   // of 8 channels, in pairs: 16 values of the sum
  int pitch;    // positions from plane to plane: eight lanes that store 16 bytes meet all banks
  int at_once;  // positions that a warpgroup copies
  int filter_bytes, stage_bytes, group_bytes;
  int groups;
  Radix radix;                   // of a position: image, row, column
  Digits group_step, turn_step;  // of as many positions as a warpgroup has threads, as lie between
                                 // two of its tiles
};

// Warpgroups of a block, one on a multiprocessor: as many as registers and shared memory have room
// for, since one's loads and epilogue take longer than its products.
constexpr int most_window_groups(int columns) { return columns == 16 ? 5 : columns == 32 ? 4 : 3; }
inline constexpr int kFewestWindowGroups = 3;

constexpr int window_bytes(const Window& w) { return w.filter_bytes + w.groups * w.group_bytes; }

constexpr Window window_of(const ConvProduct& a) {
  const int padding = a.geometry.padding, width = a.to_shape.channels;
  Window w{};
  w.columns = width <= 16 ? 16 : width <= 32 ? 32 : 64;
  w.side = 2 * padding + 1;
  w.line = a.geometry.width + padding;
  w.image = (a.geometry.height + padding) * w.line;
  w.lead = padding * (w.line + 1);
  w.positions = Window::kRows + 2 * w.lead;
  w.planes = (a.from_shape.channels + 15) / 16 * 2;
  w.pitch = (w.positions + 7) / 8 * 8 + (w.planes < 8 ? 8 / w.planes : 1);
  w.at_once = kGroup / w.planes;
  w.filter_bytes = w.side * w.side * w.planes * w.columns * 16;
  w.stage_bytes = w.planes * w.pitch * 16;
  w.group_bytes = w.stage_bytes + (2 * 4 * w.pitch + 15) / 16 * 16;  // with two tables
  w.radix = {a.geometry.height + padding, w.line};
  w.group_step = w.radix.digits(kGroup);
  w.groups = most_window_groups(w.columns);
  while (w.groups > kFewestWindowGroups && window_bytes(w) > kMostShared) --w.groups;
  w.turn_step = w.radix.digits(w.groups * Window::kRows);
  return w;
}

struct WindowProduct {
  ConvProduct a;
  Window window;
};

// The positions of an expert's images, in tiles.
struct WindowSegment {
  int first, count;
  __device__ WindowSegment(const WindowProduct& p, int expert)
      : first(segment_start(p.a.offsets, expert, p.a.n) * p.window.image),
        count(max((expert < p.a.experts ? segment_start(p.a.offsets, expert + 1, p.a.n) : p.a.n) *
                          p.window.image -
                      first,
                  0)) {}
  __device__ int tiles() const { return (count + Window::kRows - 1) / Window::kRows; }
};

// The number of the pixel at a position among those of all images; -1 in the padding and outside.
__device__ inline int window_pixel(const WindowProduct& p, const Digits& at) {
  const Conv2dGeometry& g = p.a.geometry;
  const bool present = at.high >= 0 && at.high < p.a.n && at.middle < g.height && at.low < g.width;
  return present ? (at.high * g.height + at.middle) * g.width + at.low : -1;
}

// Of a row's `width` values, those in the piece of eight from `first` on.
__device__ inline int values_in_piece(int width, int first) {
  return min(max(width - first, 0), 8);
}

// Whether rows of images lie in whole, aligned pieces of eight values. With kWhole all do; else one
// side of a convolution may, as what is made of an image's three colours does.
template <bool kWhole>
__device__ bool is_whole(int width) {
  return kWhole || width % 8 == 0;
}

// Eight values, the first `count` from `from` and zeros after them. Whole pieces are there or not.
__device__ inline void read_piece(const Bf16* from, uint32_t (&words)[4], int count, bool whole) {
  if (whole) {
    if (count > 0) {
      const uint4 all = *reinterpret_cast<const uint4*>(from);
      words[0] = all.x, words[1] = all.y, words[2] = all.z, words[3] = all.w;
    }
  } else {
#pragma unroll
    for (int i = 0; i < 8; ++i)
      if (i < count) words[i / 2] |= static_cast<uint32_t>(from[i].bits) << i % 2 * 16;
  }
}
// The same to shared memory.
__device__ inline void copy_piece(unsigned char* to, const Bf16* from, int count, bool whole) {
  if (whole) {
    ptx::cp_async<16>(to, from, count > 0 ? 16 : 0);
  } else {
    uint32_t words[4] = {};
    read_piece(from, words, count, false);
    *reinterpret_cast<uint4*>(to) = uint4{words[0], words[1], words[2], words[3]};
  }
}
// The first `count` of eight values.
__device__ inline void write_piece(Bf16* to, const uint32_t (&words)[4], int count, bool whole) {
  if (whole) {
    if (count > 0) *reinterpret_cast<uint4*>(to) = uint4{words[0], words[1], words[2], words[3]};
  } else {
#pragma unroll
    for (int i = 0; i < 8; ++i)
      if (i < count) to[i].bits = static_cast<uint16_t>(words[i / 2] >> i % 2 * 16);
  }
}

}  // namespace moat::kernels::sm90
