#pragma once

// A product per expert on Hopper: one warpgroup copies tiles of x and w into a ring in shared
// memory, two multiply them with wgmma (bf16, sums in float32) and write. Tiles of w come by TMA,
// those of x by TMA when the rows lie in order, else row by row. Every block stays and takes tile
// after tile. Copies past an expert's last row or column meet other experts' numbers: those only
// reach rows and columns that are not stored. Past the end of the sum TMA gives zeros in both.

#include <algorithm>

#include "kernels/experts/grouped_gemm.h"
#include "kernels/experts/grouped_gemm/heuristics.h"
#include "kernels/experts/grouped_gemm/ring_sm90.cuh"
#include "kernels/experts/grouped_gemm/tile_scheduler.cuh"

namespace moat::kernels::sm90 {

// A matrix of bf16 rows, `stride` values apart, that results go to. No base: nowhere. The map's box
// is kPanelRows x kPanelColumns.
struct Destination {
  TensorMap map;
  Bf16* base;
  int width, stride;
};

// What the kernel takes, boxes included:
//   x    rows of the tile x kDepth
//   w    kDepth x columns of the tile (half of them with swiglu), w transposed; else 64 x kDepth
// With swiglu pre is the half of its columns with the gates, pre_values the other.
struct Product {
  TensorMap x, w;
  Destination y, pre, pre_values;
  GroupedGemm a;
};

// Results pass through shared memory in panels, two per multiplying warpgroup.
inline constexpr int kPanelRows = 64, kPanelColumns = 64;
inline constexpr int kStagingBytes = 4 * kSquareBytes;

template <int kTileRows, int kTileColumns, TileSchedule kTileSchedule>
struct Tile {
  static constexpr int kRows = kTileRows, kColumns = kTileColumns;
  static constexpr bool kPingPong = kTileSchedule == TileSchedule::ping_pong;
  static constexpr GroupedTileShape kShape{kRows, kColumns, kTileSchedule};
  static constexpr int kGroupRows = kPingPong ? kRows : kRows / 2;  // of one warpgroup
  static constexpr int kBlocks = kGroupRows / 64;                   // wgmma has 64 rows
  static constexpr int kXBytes = kRows * kDepth * 2, kWBytes = kColumns * kDepth * 2;
  static constexpr int kTurns = kPingPong ? 2 : 1;
  static constexpr int kReaders = 2 / kTurns * kGroup / kWarp;

  // A multiplying thread needs registers for its sums, a loading one for addresses; all 384 have
  // 168 each.
  static constexpr bool kIsLarge = is_large(kShape);
  static constexpr int kLoadRegisters = kIsLarge ? 40 : 72;
  static constexpr int kMultiplyRegisters = (3 * 168 - kLoadRegisters) / 2;

  // Shared memory: operands, panels, and what the loading warps tell of the tiles to come.
  using Notes = Ring<8, sizeof(GroupedTile)>;
  static constexpr int kTurnBytes = 16;
  static constexpr int kMostSlots =
      (kMostShared - kStagingBytes - Notes::kBytes - Notes::kBarrierBytes - kTurnBytes) /
      (kXBytes + kWBytes + 16);
  using Operands = Ring<kMostSlots, kXBytes + kWBytes>;
  static constexpr int kPanels = Operands::kBytes;
  static constexpr int kNotes = kPanels + kStagingBytes;
  static constexpr int kBarriers = kNotes + Notes::kBytes;
  static constexpr int kTurnBarriers = kBarriers + Notes::kBarrierBytes + Operands::kBarrierBytes;
  static constexpr int kSharedBytes = kTurnBarriers + kTurnBytes;
  static_assert(kMostSlots > LateArrival<Operands>::kLag + 1 && kSharedBytes <= kMostShared);

  using Scheduler = TileScheduler<kRows, kColumns>;
  using Sums = float[kBlocks][kColumns / 2];

  unsigned char* shared;
  __device__ Operands operands() const {
    return {shared, shared + kBarriers + Notes::kBarrierBytes};
  }
  __device__ Notes notes() const { return {shared + kNotes, shared + kBarriers}; }
  // Ping-pong: warpgroup `group` has started the products of one more tile.
  __device__ uint64_t* started(unsigned group) const {
    return reinterpret_cast<uint64_t*>(shared + kTurnBarriers) + group;
  }
  __device__ void begin(int loaders) const {
    operands().begin(loaders, kReaders);
    notes().begin(1, kReaders);
    for (unsigned group = 0; group < 2; ++group) ptx::mbarrier_init(started(group), kGroup / kWarp);
  }
  __device__ unsigned char* panels(int group) const {
    return shared + kPanels + group * 2 * kSquareBytes;
  }
};

// The tiles of this block, as its loading warps meet them and tell the multiplying ones: number
// 0, 1, … in turn, and last a tile without an expert for each of those who take turns.
template <class T>
class TileAnnouncer {
 public:
  __device__ TileAnnouncer(const T& t, const typename T::Scheduler& tiles)
      : notes_(t.notes()), tiles_(tiles) {}

  // All warps that load call it; the first one tells.
  __device__ bool next(GroupedTile& tile) {
    const bool is_one = tiles_.next(tile);
    if (is_one)
      tell(tile);
    else
      for (int turn = 0; turn < T::kTurns; ++turn) tell({-1, 0, 0, 0});
    return is_one;
  }

 private:
  __device__ void tell(const GroupedTile& tile) {
    if (thread_of_group() < kWarp) {
      notes_.wait_empty(number_);
      if (lane() == 0) {
        *reinterpret_cast<GroupedTile*>(notes_.stage(number_)) = tile;
        ptx::mbarrier_arrive(notes_.full(number_));
      }
      __syncwarp();
    }
    ++number_;
  }
  typename T::Notes notes_;
  typename T::Scheduler tiles_;
  unsigned number_ = 0;
};

template <class T>
__device__ typename T::Scheduler tiles_of(const GroupedGemm& a) {
  return {
      a.offsets, a.experts, a.rows, a.n, static_cast<int>(blockIdx.x), static_cast<int>(gridDim.x)};
}

// What the others hear: tile `number`.
template <class T>
__device__ GroupedTile told_tile(const T& t, unsigned number) {
  const typename T::Notes notes = t.notes();
  notes.wait_full(number);
  const GroupedTile tile = *reinterpret_cast<const GroupedTile*>(notes.stage(number));
  __syncwarp();
  notes.release(number);
  return tile;
}

constexpr bool is_gated(const GroupedGemm& a) { return a.activation == ExpertActivation::swiglu; }

// The part of w that a tile needs at `depth`. With swiglu the first half of the tile's columns are
// gates and the second their values, n / 2 columns further: gate and value of a result are then
// sums of the same thread.
template <class T, ptx::Major kMajor>
__device__ void load_w(const Product& p, const GroupedTile& tile, int depth, unsigned char* stage,
                       uint64_t* full) {
  const bool gated = is_gated(p.a);
  const int first = gated ? tile.column / 2 : tile.column;
  const int half = gated ? T::kColumns / 2 : T::kColumns;
  if constexpr (kMajor == ptx::Major::k) {
    ptx::tma_load_3d(stage, &p.w, full, depth, first, tile.expert);
    if (gated)
      ptx::tma_load_3d(stage + half * kDepth * 2, &p.w, full, depth, first + p.a.n / 2,
                       tile.expert);
  } else {
    for (int c = 0; c < T::kColumns; c += 64)
      ptx::tma_load_3d(stage + c * kDepth * 2, &p.w, full,
                       c < half ? first + c : first + p.a.n / 2 + c - half, depth, tile.expert);
  }
}

// x in order: one warp, one lane of it.
template <class T, ptx::Major kMajor>
__device__ void load_in_order(const Product& p, const T& t) {
  const typename T::Operands ring = t.operands();
  TileAnnouncer<T> tiles(t, tiles_of<T>(p.a));
  unsigned step = 0;
  GroupedTile tile;
  while (tiles.next(tile)) {
    if (tile.expert == p.a.experts) continue;
    for (int depth = 0; depth < p.a.k; depth += kDepth, ++step) {
      ring.wait_empty(step);
      if (lane() == 0) {
        uint64_t* full = ring.full(step);
        ptx::mbarrier_arrive_expect_tx(full, T::kXBytes + T::kWBytes);
        ptx::tma_load_2d(ring.stage(step), &p.x, full, depth, tile.row);
        load_w<T, kMajor>(p, tile, depth, ring.stage(step) + T::kXBytes, full);
      }
      __syncwarp();
    }
  }
}

// x by row_token: all 128 threads, 16 bytes at a time; eight neighbouring lanes copy the 128 bytes
// of a row to the places where TMA's 128-byte swizzle would put them. A warp has a quarter of the
// rows, four in a copy, and a lane keeps the tokens of one or two of them.
template <class T, ptx::Major kMajor>
__device__ void load_by_token(const Product& p, const T& t) {
  constexpr int kWarpRows = T::kRows / 4, kKept = (kWarpRows + kWarp - 1) / kWarp;
  const GroupedGemm& a = p.a;
  const int warp_row = thread_of_group() / kWarp * kWarpRows, chunk = lane() % 8;
  const int place = (warp_row + lane() / 8) * 128 + (chunk ^ lane() / 8) * 16;
  const Bf16* x = static_cast<const Bf16*>(a.x) + chunk * 8;
  const typename T::Operands ring = t.operands();
  const LateArrival arrival(ring);
  TileAnnouncer<T> tiles(t, tiles_of<T>(a));
  unsigned step = 0;
  GroupedTile tile;
  while (tiles.next(tile)) {
    if (tile.expert == a.experts) continue;
    int kept[kKept];  // -1: a row of zeros
#pragma unroll
    for (int i = 0; i < kKept; ++i) {
      const int row = warp_row + i * kWarp + lane();
      const int token = row < tile.rows ? a.row_token[tile.row + row] : -1;
      kept[i] = token < a.x_rows ? token : -1;
    }
    for (int depth = 0; depth < a.k; depth += kDepth, ++step) {
      ring.wait_empty(step);
      unsigned char* stage = ring.stage(step);
      if (thread_of_group() == 0) {
        ptx::mbarrier_arrive_expect_tx(ring.full(step), T::kWBytes);
        load_w<T, kMajor>(p, tile, depth, stage + T::kXBytes, ring.full(step));
      }
      __syncwarp();
      const int left = a.k - depth - chunk * 8;
#pragma unroll
      for (int i = 0; i < kWarpRows / 4; ++i) {
        const int token = __shfl_sync(kAllLanes, kept[i / 8], i % 8 * 4 + lane() / 8);
        const bool is_there = token >= 0 && left > 0;
        ptx::cp_async<16>(stage + (place ^ i % 2 * 64) + i * 512,
                          is_there ? x + int64_t{token} * a.k + depth : a.x, is_there ? 16 : 0);
      }
      arrival.issued(step);
    }
  }
  arrival.finish(step);
}

// sums = the product of rows `row` and below of tile `number`, `steps` deep. Ping-pong: the
// products of a tile start when the other warpgroup has started all of the tile before; that also
// keeps the parity of the full barriers unambiguous, which a group that is two rounds ahead would
// misread.
template <class T, ptx::Major kMajor>
__device__ void multiply_tile(typename T::Sums& sums, const T& t, int row, unsigned number,
                              unsigned steps) {
  // From zero by ordinary stores, not by the first product: the last tile's sums would seem to be
  // its input and occupy registers until then.
#pragma unroll
  for (auto& block : sums)
#pragma unroll
    for (float& sum : block) sum = 0;
  if (T::kPingPong && number > 0) {
    ptx::mbarrier_wait(t.started((number - 1) % 2), (number - 1) / 2 % 2);
    __syncwarp();
  }
  const auto start = [&](unsigned char* stage) {
    const uint32_t x = ptx::shared_address(stage) + static_cast<uint32_t>(row) * 128;
    const uint32_t w = ptx::shared_address(stage) + T::kXBytes;
#pragma unroll
    for (uint32_t part = 0; part < kDepth / 16; ++part) {
      const uint64_t columns = kMajor == ptx::Major::k
                                   ? ptx::k_major(w + part * 32, Swizzle::b128)
                                   : ptx::mn_major(w + part * 2048, Swizzle::b128, kSquareBytes);
#pragma unroll
      for (uint32_t b = 0; b < T::kBlocks; ++b)
        ptx::wgmma_m64k16_bf16<T::kColumns, ptx::Major::k, kMajor>(
            sums[b], ptx::k_major(x + b * kSquareBytes + part * 32, Swizzle::b128), columns, 1);
    }
  };
  multiply(t.operands(), number * steps, steps, start, [&] {
    if (T::kPingPong && lane() == 0) ptx::mbarrier_arrive(t.started(number % 2));
  });
#pragma unroll
  for (auto& block : sums) ptx::wgmma_results(block);
}

}  // namespace moat::kernels::sm90
