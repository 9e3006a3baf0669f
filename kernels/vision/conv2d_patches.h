#pragma once

// A convolution as products of matrices (im2col): the patch of the operand that a pixel of the
// result meets, unrolled into a row, times the filter. The inside of conv2d_products.cpp.

#include <cstdint>
#include <vector>

#include "kernels/vision/conv2d.h"

namespace moat::kernels {

// Coordinates of one axis of the result that meet the same taps: `taps` neighbouring ones of a
// group, from first_tap on. Result coordinate results[i] meets operand coordinates operands[i],
// operands[i] + 1, …. At a border the taps outside the operand are left out.
struct AxisClass {
  int group, first_tap, taps;
  std::vector<int> results, operands;
};

// Forward: operand x, result y, all taps one group in their own order. Input gradient: operand d_y,
// result d_x; with a stride, neighbouring pixels of d_x meet different taps, those of one residue
// modulo the stride, in descending order: a group for each residue.
struct PatchAxis {
  int operands, results;        // extents
  std::vector<int> group_taps;  // taps of each group
  std::vector<AxisClass> classes;
  static PatchAxis of(FilterUse use, int in, int out, int taps, int stride, int padding);
};

// Rows of result pixels that meet the same taps.
struct PatchTile {
  const AxisClass *rows, *columns;
  int64_t first;  // among the pixels of this pair of classes, over all images
  int pixels;
};

class Patches {
 public:
  Patches(const Conv2dGeometry& geometry, FilterUse use);

  // Tiles of at most `largest` pixels that cover n images.
  int64_t tiles(int n, int largest) const;
  PatchTile tile(int n, int largest, int64_t index) const;

  // Position of a tap among all r·s of the filter as the products want it: group by group.
  int position(int row_group, int row_tap, int column_group, int column_tap) const;
  // The same of filter tap (u, v) in the input gradient.
  int position_of_filter_tap(int u, int v) const;

  int taps(const PatchTile& tile) const { return tile.rows->taps * tile.columns->taps; }

  // body(pixel of the tile, operand pixel, result pixel): offsets in pixels from the first image;
  // the operand's is the first of the patch.
  template <class Body>
  void for_each_pixel(const PatchTile& tile, Body&& body) const {
    const auto rows = static_cast<int64_t>(tile.rows->results.size()),
               columns = static_cast<int64_t>(tile.columns->results.size());
    int64_t image = tile.first / (rows * columns);
    size_t row = static_cast<size_t>(tile.first / columns % rows),
           column = static_cast<size_t>(tile.first % columns);
    for (int i = 0; i < tile.pixels; ++i) {
      body(i,
           (image * rows_.operands + tile.rows->operands[row]) * columns_.operands +
               tile.columns->operands[column],
           (image * rows_.results + tile.rows->results[row]) * columns_.results +
               tile.columns->results[column]);
      if (++column < tile.columns->results.size()) continue;
      column = 0;
      if (++row < tile.rows->results.size()) continue;
      row = 0;
      ++image;
    }
  }

  // body(first, count, position): taps [first, first + count) of the unrolled patch lie side by
  // side in the filter, from `position` on.
  template <class Body>
  void for_each_run(const PatchTile& tile, Body&& body) const {
    const AxisClass &r = *tile.rows, &c = *tile.columns;
    if (c.taps == columns_.group_taps[static_cast<size_t>(c.group)]) {
      if (taps(tile) > 0) body(0, taps(tile), position(r.group, r.first_tap, c.group, 0));
      return;
    }
    for (int t = 0; t < r.taps && c.taps > 0; ++t)
      body(t * c.taps, c.taps, position(r.group, r.first_tap + t, c.group, c.first_tap));
  }

  // Unrolls the patches of operand pixels of `channels` floats: [pixels, taps · channels].
  void unroll(const PatchTile& tile, const float* operand, int channels, float* patches) const;

 private:
  PatchAxis rows_, columns_;
  int stride_;
};

}  // namespace moat::kernels
