#pragma once

// How the threads of a grid share a matrix [rows, channels], and sums per channel in a fixed order.

#include <algorithm>

#include "kernels/cuda/vector.cuh"
#include "kernels/vision/per_channel.cuh"

namespace moat::kernels::batch_norm {

inline constexpr int kThreads = 256;
inline constexpr int kMostColumns = 32;  // vectors of neighbouring channels in a tile

// The matrix in blocks of rows and tiles of channels, one CUDA block each. Its threads stand in
// `lanes` rows of `columns`, a vector of channels per thread; threads left over are idle. Nothing
// here depends on the machine, so that sums are the same bits everywhere.
struct Tiling {
  int64_t rows, block_rows, row_blocks;
  int channels, tiles, columns, lanes;

  // `most_blocks` of `steps` rows per thread or more, and more of them beyond `most_steps`.
  Tiling(int64_t num_rows, int num_channels, int vector, int64_t steps, int64_t most_steps,
         int64_t most_blocks)
      : rows(num_rows), channels(num_channels) {
    const int vectors = channels / vector;
    tiles = (vectors + kMostColumns - 1) / kMostColumns;
    columns = (vectors + tiles - 1) / tiles;
    lanes = kThreads / columns;
    const int64_t wanted = std::max<int64_t>(1, most_blocks / tiles) * lanes;
    block_rows = lanes * std::clamp((rows + wanted - 1) / wanted, steps, most_steps);
    row_blocks = (rows + block_rows - 1) / block_rows;
  }

  Grid grid() const { return {dim3(static_cast<unsigned>(row_blocks * tiles)), dim3(kThreads)}; }

  __host__ __device__ int64_t rows_of(int64_t row_block) const {
    const int64_t left = rows - row_block * block_rows;
    return left < block_rows ? left : block_rows;
  }
};

// For sums: up to 2048 CUDA blocks, a few waves of a large chip, and more only where a thread's
// float32 sums would have more than 128 terms.
inline Tiling sums_tiling(int64_t rows, int channels, int vector) {
  return {rows, channels, vector, 8, 128, 2048};
}
// For passes without sums: eight rows share a thread's numbers per channel.
inline Tiling pass_tiling(int64_t rows, int channels, int vector) {
  return {rows, channels, vector, 8, 8, 1};
}

// A thread's N channels and rows of a block.
template <int N>
struct Place {
  int64_t row_block, row, end;  // its rows: row, row + lanes, … below `end`
  int tile, column, lane, lanes, channel;

  __device__ Place(const Tiling& t, unsigned block)
      : row_block(block / static_cast<unsigned>(t.tiles)),
        tile(static_cast<int>(block % static_cast<unsigned>(t.tiles))),
        column(static_cast<int>(threadIdx.x) % t.columns),
        lane(static_cast<int>(threadIdx.x) / t.columns),
        lanes(t.lanes),
        channel((tile * t.columns + column) * N) {
    const int64_t first = row_block * t.block_rows;
    end = first + t.rows_of(row_block);
    row = lane < lanes && channel < t.channels ? first + lane : end;
  }
  __device__ int64_t count() const { return row < end ? (end - row + lanes - 1) / lanes : 0; }
};

// Two numbers per channel and lane of a block in shared memory, [lanes, N, columns].
template <int N>
struct LaneValues {
  double first[kThreads * N], second[kThreads * N];

  __device__ void set(const Tiling& t, const Place<N>& at, int n, double a, double b) {
    if (at.lane >= at.lanes) return;
    const int slot = (at.lane * N + n) * t.columns + at.column;
    first[slot] = a;
    second[slot] = b;
  }
  // f(channel, index of lane 0, stride of a lane) by one thread per channel of the tile.
  template <class F>
  __device__ void for_each_channel(const Tiling& t, const Place<N>& at, F&& f) const {
    const int width = t.columns * N, i = static_cast<int>(threadIdx.x);
    if (i >= width) return;
    const int channel = (at.tile * t.columns + i % t.columns) * N + i / t.columns;
    if (channel < t.channels) f(channel, i, width);
  }
};

// Sums over the blocks of rows, with eight channels per CUDA block: runs of consecutive blocks in
// order, then the runs in order. Every thread of a channel gets the sum.
struct BlockSums {
  static constexpr int kChannels = 8, kRuns = kThreads / kChannels;
  struct Scratch {
    double runs[kRuns][kChannels];
  };

  int channel, run, channels;
  int64_t first, last;
  Scratch& scratch;

  __device__ BlockSums(const Tiling& t, Scratch& shared)
      : channel(static_cast<int>(blockIdx.x) * kChannels +
                static_cast<int>(threadIdx.x) % kChannels),
        run(static_cast<int>(threadIdx.x) / kChannels),
        channels(t.channels),
        first(t.row_blocks * run / kRuns),
        last(t.row_blocks * (run + 1) / kRuns),
        scratch(shared) {}

  static Grid grid(int channels) {
    return {dim3((static_cast<unsigned>(channels) + kChannels - 1) / kChannels), dim3(kThreads)};
  }
  // One thread of each channel writes the results.
  __device__ bool writes() const { return run == 0 && channel < channels; }

  template <class Term>
  __device__ double of(Term&& term) const {
    double sum = 0;
    if (channel < channels) {
#pragma unroll 4
      for (int64_t block = first; block < last; ++block) sum += term(block);
    }
    const int mine = static_cast<int>(threadIdx.x) % kChannels;
    scratch.runs[run][mine] = sum;
    __syncthreads();
    sum = 0;
    for (int r = 0; r < kRuns; ++r) sum += scratch.runs[r][mine];
    __syncthreads();
    return sum;
  }
};

// Numbers per channel that a pass reads, in the workspace.
template <class C>
struct Coefficients {
  C *center, *factor, *shift, *slope;  // [channels] each
};

// The workspace: two sums per block of rows and channel, then the coefficients.
struct Workspace {
  double *sums, *by_channel;
  int channels;

  static size_t bytes(int64_t row_blocks, int channels) {
    return static_cast<size_t>((2 * row_blocks + 4) * channels) * sizeof(double);
  }
  Workspace(Cuda on, const Tiling& t)
      : sums(static_cast<double*>(on.workspace)),
        by_channel(sums + 2 * t.row_blocks * t.channels),
        channels(t.channels) {}
  template <class C>
  Coefficients<C> coefficients() const {
    C* first = reinterpret_cast<C*>(by_channel);
    return {first, first + channels, first + 2 * int64_t{channels}, first + 3 * int64_t{channels}};
  }
};

// For any alignment of the pointers.
inline size_t sums_workspace(int64_t rows, int channels, Dtype dtype) {
  int64_t row_blocks = 0;
  const Status status = with_float(dtype, [&]<class T>() {
    row_blocks = sums_tiling(rows, channels, 1).row_blocks;
    if (channels % kVectorSize<T> == 0)
      row_blocks = std::max(row_blocks, sums_tiling(rows, channels, kVectorSize<T>).row_blocks);
    return Status::ok;
  });
  return status == Status::ok ? Workspace::bytes(row_blocks, channels) : 0;
}

}  // namespace moat::kernels::batch_norm
