#pragma once

#include <algorithm>

#include "kernels/cuda/warp.cuh"

namespace moat::kernels {

// A tile of the output: `rows` rows of one expert from `row` on, and the columns from `column` on.
// `rows` is the tile's height but for the last tile of an expert. Rows behind the last expert's are
// the tiles of an expert of their own, number `experts`: they are to become zeros.
struct GroupedTile {
  int expert, row, rows, column;
};

// At least as many as the tiles of any offsets; a product of extents, so 64 bits.
constexpr int64_t most_grouped_tiles(int rows, int experts, int columns, int tile_rows,
                                     int tile_columns) {
  const int64_t ragged = std::min<int64_t>(rows, int64_t{experts} + 1);
  return (rows / tile_rows + ragged) * ((int64_t{columns} + tile_columns - 1) / tile_columns);
}
// What TileScheduler's 32-bit tile numbers allow: most_grouped_tiles() and any step stay below.
inline constexpr int64_t kMostScheduledTiles = int64_t{1} << 30;

// Where expert e's part of `count` rows or images begins, pulled into [0, count]; for e = experts,
// where the last one ends. Without offsets there is one expert, which has them all.
__device__ inline int segment_start(const int32_t* offsets, int64_t e, int count) {
  if (!offsets) return e == 0 ? 0 : count;
  return min(max(offsets[e], 0), count);
}

// What offsets count: rows, or images of so many rows each.
struct OfRows {
  static constexpr int rows = 1;
};
struct OfImages {
  int rows;
};

// Enumerates tiles first, first + step, first + 2·step, … of all experts, in the experts' order,
// from offsets that are on the device only. Experts without rows have no tiles. Inside an expert,
// kRowTiles tiles above each other come before the next ones to their right: blocks that run at the
// same time share columns of w through the L2 cache, and the rows of x stay there.
//
// Every warp that needs the sequence walks it itself, all 32 lanes together. A lane looks at one
// expert of a window of 32: a prefix sum and a ballot per tile and window, from offsets that the L1
// cache holds, instead of registers.
// Offsets outside [0, count] are pulled in, so that no tile leaves the output.
template <int kTileRows, int kTileColumns, int kRowTiles = 16, class Unit = OfRows>
class TileScheduler {
 public:
  __device__ TileScheduler(const int32_t* offsets, int experts, int count, int columns, int first,
                           int step, Unit unit = {})
      : offsets_(offsets),
        experts_(experts),
        count_(count),
        column_tiles_((columns + kTileColumns - 1) / kTileColumns),
        step_(step),
        unit_(unit),
        next_(first) {}

  // False when there are no more tiles. All lanes of the warp call it and get the same tile.
  __device__ bool next(GroupedTile& tile) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    while (window_ <= experts_) {
      const int e = window_ + lane;
      const int first_row = start(e), count = max(start(e + 1) - first_row, 0);
      const int height = (count + kTileRows - 1) / kTileRows;
      int end = height * column_tiles_;  // the number of the tile behind this expert's last one
#pragma unroll
      for (int distance = 1; distance < kWarp; distance *= 2) {
        const int below = __shfl_up_sync(kAllLanes, end, distance);
        if (lane >= distance) end += below;
      }
      end += before_;
      const unsigned owners = __ballot_sync(kAllLanes, next_ < end);
      if (owners == 0) {
        before_ = __shfl_sync(kAllLanes, end, kWarp - 1);
        window_ += kWarp;
        continue;
      }
      const int owner = __ffs(static_cast<int>(owners)) - 1;
      place(tile, __shfl_sync(kAllLanes, first_row, owner), __shfl_sync(kAllLanes, count, owner),
            __shfl_sync(kAllLanes, end, owner));
      tile.expert = window_ + owner;
      next_ += step_;
      return true;
    }
    return false;
  }

  // When there are no more: where the same sequence goes on in the tiles that follow these.
  __device__ int left_over() const { return next_ - before_; }

 private:
  // Tile next_ of the expert with `count` rows from `first_row` on, whose tiles end before `end`.
  __device__ void place(GroupedTile& tile, int first_row, int count, int end) const {
    const int height = (count + kTileRows - 1) / kTileRows;
    const int local = next_ - (end - height * column_tiles_);
    const int above = local / (kRowTiles * column_tiles_) * kRowTiles;  // row tiles already done
    const int stacked = min(kRowTiles, height - above), inside = local - above * column_tiles_;
    const int column = inside / stacked, row = (above + inside - column * stacked) * kTileRows;
    tile.row = first_row + row;
    tile.rows = min(kTileRows, count - row);
    tile.column = column * kTileColumns;
  }
  // The first row of an expert, or of the rows behind all of them.
  __device__ int start(int e) const {
    return (e <= experts_ ? segment_start(offsets_, e, count_) : count_) * unit_.rows;
  }

  const int32_t* offsets_;
  int experts_, count_, column_tiles_, step_;
  [[no_unique_address]] Unit unit_;
  int next_;                     // the number of the tile that comes next
  int window_ = 0, before_ = 0;  // the window's first expert, tiles of the experts before it
};

}  // namespace moat::kernels
