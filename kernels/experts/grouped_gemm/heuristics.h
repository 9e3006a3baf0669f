#pragma once

// Which tile a Hopper product over experts takes, from what the host knows: extents, never the
// rows of each expert. Counts clocks of one multiprocessor; only comparisons between them matter.

#include <algorithm>
#include <array>
#include <cstdint>

#include "kernels/ceil_div.h"
#include "kernels/experts/expert_activation.h"

namespace moat::kernels {

// Two groups of 128 threads multiply. cooperative: halves of the rows of one tile, so that a tile
// may be large, but nothing multiplies while a tile is written. ping_pong: a tile each, one
// multiplying while the other writes.
enum class TileSchedule { cooperative, ping_pong };

struct GroupedTileShape {
  int rows, columns;
  TileSchedule schedule;
  constexpr bool operator==(const GroupedTileShape&) const = default;
};
inline constexpr std::array<GroupedTileShape, 4> kGroupedTileShapes{{
    {128, 256, TileSchedule::cooperative},
    {128, 192, TileSchedule::ping_pong},
    {192, 128, TileSchedule::ping_pong},
    {128, 128, TileSchedule::ping_pong},
}};

// Whether a thread has so many sums that no registers are left for more than writing them: not for
// a loop over them, without which gelu is more code than the instruction cache keeps (ViT-S took
// 624 us on an H200, and 183 without it).
constexpr bool is_large(const GroupedTileShape& tile) {
  const int groups = tile.schedule == TileSchedule::ping_pong ? 1 : 2;
  return tile.rows * tile.columns > groups * 128 * 128;
}

struct GroupedExtents {
  int64_t rows, experts, n, k;
  int multiprocessors;
  ExpertActivation activation = ExpertActivation::none;
  bool keeps_pre = false;  // results before the activation are written, too
};

constexpr bool takes(const GroupedTileShape& tile, const GroupedExtents& a) {
  return !is_large(tile) || (a.activation == ExpertActivation::none && !a.keeps_pre);
}

namespace grouped_clocks {

inline constexpr int kBlock = 64;           // depth of a step along k, two bytes each
inline constexpr int64_t kProducts = 2048;  // multiply-adds of bf16 per clock
inline constexpr int64_t kL2Bytes = 47;     // from the L2 cache per clock (moe-kernels 7.4: 45-50)
inline constexpr int64_t kStores = 30;      // results per clock, by 256 threads
inline constexpr int64_t kHbmBytes = 20;    // a multiprocessor's share of the memory bandwidth

// Multiplying one tile: tensor cores or the loads of both operands, whichever is slower.
constexpr int64_t product(GroupedTileShape tile, int64_t depth) {
  const int64_t area = int64_t{tile.rows} * tile.columns;
  return ceil_div(depth, kBlock) *
         std::max(area * kBlock / kProducts, (tile.rows + tile.columns) * kBlock * 2 / kL2Bytes);
}

// Writing one tile, by all threads. gelu and silu take a power and a reciprocal, of each of which a
// multiprocessor has 16 a clock; swiglu those of half of the columns.
constexpr int64_t write(GroupedTileShape tile, ExpertActivation activation) {
  const int64_t area = int64_t{tile.rows} * tile.columns, plain = area / kStores;
  switch (activation) {
    case ExpertActivation::gelu:
    case ExpertActivation::gelu_tanh:
      return plain + area / 8;
    case ExpertActivation::swiglu:
      return plain + area / 16;
    default:
      return plain;
  }
}

// `tiles` one after the other on every multiprocessor.
constexpr int64_t total(GroupedTileShape tile, int64_t waves, int64_t multiply, int64_t write) {
  return tile.schedule == TileSchedule::cooperative
             ? waves * (multiply + write)
             : waves * std::max(multiply, multiply / 2 + write) + 2 * write;
}

// Clocks of the whole product when the rows are spread evenly over the experts.
constexpr int64_t forward(GroupedTileShape tile, const GroupedExtents& a) {
  const int64_t used = std::max<int64_t>(1, std::min(a.rows, a.experts));
  const int64_t tiles =
      used * ceil_div(ceil_div(a.rows, used), tile.rows) * ceil_div(a.n, tile.columns);
  return total(tile, ceil_div(tiles, std::max(1, a.multiprocessors)), product(tile, a.k),
               write(tile, a.activation));
}

}  // namespace grouped_clocks

// The cheapest of some shapes.
template <size_t kShapes>
constexpr GroupedTileShape cheapest(const std::array<GroupedTileShape, kShapes>& shapes,
                                    const GroupedExtents& a) {
  GroupedTileShape best = shapes[0];
  int64_t least = INT64_MAX;
  for (const GroupedTileShape& tile : shapes) {
    if (!takes(tile, a)) continue;
    const int64_t clocks = grouped_clocks::forward(tile, a);
    if (clocks < least) best = tile, least = clocks;
  }
  return best;
}
constexpr GroupedTileShape grouped_tile_shape(const GroupedExtents& a) {
  return cheapest(kGroupedTileShapes, a);
}

// The weight gradient's tiles, n x k, all of them cooperative. Its sums run over the rows of an
// expert, which are cut in `splits` pieces where there are few tiles; the pieces' results wait in
// the workspace and are added in order.
inline constexpr std::array<GroupedTileShape, 2> kWeightGradTileShapes{{
    {128, 256, TileSchedule::cooperative},
    {128, 128, TileSchedule::cooperative},
}};
inline constexpr int kMostSplits = 16;

struct WeightGradPlan {
  GroupedTileShape tile;
  int splits;
  constexpr bool operator==(const WeightGradPlan&) const = default;
};

constexpr WeightGradPlan weight_grad_plan(const GroupedExtents& a) {
  using namespace grouped_clocks;
  const int64_t processors = std::max(1, a.multiprocessors);
  const int64_t used = std::max<int64_t>(1, std::min(a.rows, a.experts));
  const int64_t depth = ceil_div(a.rows, used);  // rows of an expert
  WeightGradPlan best{kWeightGradTileShapes[0], 1};
  int64_t least = INT64_MAX;
  for (const GroupedTileShape& tile : kWeightGradTileShapes)
    for (int splits = 1; splits <= kMostSplits; ++splits) {
      if (splits > 1 && splits > ceil_div(depth, 4 * kBlock)) break;  // at least four steps each
      const int64_t tiles =
          a.experts * ceil_div(a.n, tile.rows) * ceil_div(a.k, tile.columns) * splits;
      const int64_t added = splits == 1 ? 0 : (splits + 1) * a.experts * a.n * a.k * 4;
      const int64_t clocks =
          total(tile, ceil_div(tiles, processors), product(tile, ceil_div(depth, splits)),
                2 * write(tile, ExpertActivation::none)) +
          added / (kHbmBytes * processors);
      if (clocks < least) best = {tile, splits}, least = clocks;
    }
  return best;
}

}  // namespace moat::kernels
