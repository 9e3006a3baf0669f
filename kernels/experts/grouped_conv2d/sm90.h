#pragma once

// Convolutions over experts on Hopper's tensor cores (wgmma): what
// kernels/experts/grouped_conv2d.cu calls on devices of compute capability 9.0. Arguments have been
// checked there.

#include "kernels/experts/grouped_conv2d/product.h"
#include "kernels/experts/grouped_gemm/heuristics.h"

namespace moat::kernels::sm90 {

// Output channels of a gathered tile; it has 128 pixels, or in the weight gradient 128 taps and
// channels.
enum class ConvTile { narrow = 64, middle = 128, wide = 256 };
constexpr ConvTile narrowest(int channels) {
  return channels <= 64 ? ConvTile::narrow : channels <= 128 ? ConvTile::middle : ConvTile::wide;
}

// Pixels and output channels of a tile whose pixels TMA walks over.
inline constexpr std::array<GroupedTileShape, 3> kWalkedTileShapes{{
    {128, 256, TileSchedule::cooperative},
    {256, 128, TileSchedule::cooperative},
    {128, 128, TileSchedule::ping_pong},
}};

inline constexpr int kMostTaps = 15;  // rows or columns of a filter

// Tiles: bfloat16, with channels in whole, aligned 16 bytes, and filters of at most kMostTaps rows
// and columns. TMA walks over the pixels of a tile where the channels that are summed over are a
// multiple of 64, the stride at most 8 and the padding at most 128; else they are gathered one by
// one. All tiles give the same bits.
bool fits_tiles(const ConvProduct&);
bool fits_walk(const ConvProduct&);
Status run_tiles(Cuda, const ConvProduct&);
Status run_walked(Cuda, const ConvProduct&, const GroupedTileShape&);
Status run_gathered(Cuda, const ConvProduct&, ConvTile);

// Windows, for thin layers: bfloat16, at most 64 channels on either side, any number, stride 1 and
// results as large as the images, whose rows are so short that three windows fit in shared memory;
// of all images fewer than 2^30 pixels with their padding.
bool fits_window(const ConvProduct&);
Status run_window(Cuda, const ConvProduct&);

// Windows where they fit, else tiles; where neither does, product_sm80.cuh serves.
bool can_run(const ConvProduct&);
Status run(Cuda, const ConvProduct&);

// Pieces of an expert's pixels, each summed apart: 1 to 64, by the extents and the chip alone. The
// workspace is for their sums where there are several.
bool can_run(const GroupedConv2dWeightGrad&);
int splits(const GroupedConv2dWeightGrad&);
size_t workspace(const GroupedConv2dWeightGrad&, int splits);
Status run(Cuda, const GroupedConv2dWeightGrad&);
Status run(Cuda, const GroupedConv2dWeightGrad&, ConvTile, int splits);

}  // namespace moat::kernels::sm90
