#pragma once

// Thin convolutions over experts on Hopper: at most 64 channels on either side, stride 1, results
// as large as the images. Gathering a row of the product per pixel reads every pixel once per tap,
// and with few channels that takes longer than the arithmetic. Here a window of pixels lies in
// shared memory once, and each tap is the same window a few pixels further on.
//
// Images are laid out in a line with the padding between them: H rows of W pixels and `padding`
// zeros, then `padding` such rows of zeros. Row and column never matter again: tap (u, v) of
// position q is position q + u · line + v - lead. A tile is 128 positions and has the `lead`
// positions before and after it; results in the padding are computed and dropped.
//
// The window is stored in planes of 8 channels, 16 bytes for each position, which wgmma takes as a
// matrix along k without a swizzle: such a matrix may start at any position. Channels that are no
// multiple of 8 (the three of an image) are copied one by one.

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
  Radix radix;                   // of a position: image, row, column
  Digits group_step, turn_step;  // of as many positions as a warpgroup has threads, as lie between
                                 // two of its tiles
};

// Warpgroups of a block and blocks of a multiprocessor: as many as registers leave room for, since
// one's loads and epilogue take about as long as its products.
constexpr int window_groups(int columns) { return columns == 32 ? 4 : 3; }
constexpr int window_blocks(int columns) { return columns == 16 ? 2 : 1; }
constexpr int window_threads(int columns) { return window_groups(columns) * kGroup; }

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
  w.turn_step = w.radix.digits(window_groups(w.columns) * Window::kRows);
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

// Eight values to shared memory, the first `count` from `from` and zeros after them. Whole pieces
// are aligned, and there or not.
template <bool kWhole>
__device__ void copy_piece(unsigned char* to, const Bf16* from, int count) {
  if constexpr (kWhole) {
    ptx::cp_async<16>(to, from, count > 0 ? 16 : 0);
  } else {
    uint32_t words[4] = {};
#pragma unroll
    for (int i = 0; i < 8; ++i)
      if (i < count) words[i / 2] |= static_cast<uint32_t>(from[i].bits) << i % 2 * 16;
    *reinterpret_cast<uint4*>(to) = uint4{words[0], words[1], words[2], words[3]};
  }
}
// The first `count` of eight values.
template <bool kWhole>
__device__ void write_piece(Bf16* to, const uint32_t (&words)[4], int count) {
  if constexpr (kWhole) {
    if (count > 0) *reinterpret_cast<uint4*>(to) = uint4{words[0], words[1], words[2], words[3]};
  } else {
#pragma unroll
    for (int i = 0; i < 8; ++i)
      if (i < count) to[i].bits = static_cast<uint16_t>(words[i / 2] >> i % 2 * 16);
  }
}

// The filters of an expert, by all threads. Forward a plane holds 8 input channels of every output
// channel, along k; in the input gradient 8 input channels (what is written) of every output
// channel (what is summed over), along the columns.
template <int kColumns, FilterUse kUse, bool kWhole>
__device__ void load_window_filters(const WindowProduct& p, int expert, unsigned char* filters) {
  const Window& w = p.window;
  const Conv2dGeometry& g = p.a.geometry;
  constexpr bool kForward = kUse == FilterUse::forward;
  const int lines = kForward ? kColumns : w.planes * 8, planes = kForward ? w.planes : kColumns / 8,
            taps = w.side * w.side;
  const Bf16* from = static_cast<const Bf16*>(p.a.filters) + expert * p.a.filter_stride;
  for (int i = static_cast<int>(threadIdx.x); i < taps * planes * lines;
       i += window_threads(kColumns)) {
    const int rest = i / planes, plane = i % planes, tap = rest % taps, line = rest / taps;
    const int count = line < g.c_out ? values_in_piece(g.c_in, plane * 8) : 0;
    copy_piece<kWhole>(filters + ((tap * planes + plane) * lines + line) * 16,
                       count > 0 ? from + (int64_t{line} * taps + tap) * g.c_in + plane * 8 : from,
                       count);
  }
}

// What a warpgroup does with its part of shared memory: a window, and two tables.
template <int kColumns, FilterUse kUse, bool kWhole>
class WindowGroup {
  static constexpr bool kForward = kUse == FilterUse::forward;
  static constexpr int kChunks = kColumns / 8;  // of 8 columns, of a position

 public:
  __device__ WindowGroup(const WindowProduct& p, unsigned char* shared)
      : p_(p),
        stage_(shared),
        tables_(reinterpret_cast<int*>(shared + p.window.stage_bytes)),
        plane_(thread_of_group() % p.window.planes),
        position_(thread_of_group() / p.window.planes) {}

  // The tiles from position `first` on, up to position `last`.
  __device__ void start_expert(int expert, int first, int last) {
    last_ = last;
    // One image further on, so that no number is negative.
    at_ = p_.window.radix.digits(first - p_.window.lead + p_.window.image + thread_of_group());
#pragma unroll
    for (int i = 0; i < kColumns / 4; ++i) {
      const int column = i / 2 * 8 + lane() % 4 * 2 + i % 2, width = p_.a.to_shape.channels;
      bias_[i] = kForward && p_.a.bias && column < width
                     ? static_cast<const float*>(p_.a.bias)[int64_t{expert} * width + column]
                     : 0;
    }
  }

  // Of the next tile; a barrier of the warpgroup makes it visible.
  __device__ void fill_table(int turn) {
    const Window& w = p_.window;
    Digits at = at_;
#pragma unroll 2
    for (int i = thread_of_group(); i < w.positions;
         i += kGroup, at = w.radix.sum(at, w.group_step))
      table(turn)[i] = window_pixel(p_, {at.high - 1, at.middle, at.low});
    at_ = w.radix.sum(at_, w.turn_step);
  }

  // The window of the table; neighbouring lanes copy a pixel's planes.
  __device__ void load(int turn) const {
    const Window& w = p_.window;
    if (position_ >= w.at_once) return;  // planes do not always divide the threads
    const int channels = values_in_piece(p_.a.from_shape.channels, plane_ * 8);
    const Bf16* images = static_cast<const Bf16*>(p_.a.from) + (channels > 0 ? plane_ * 8 : 0);
    unsigned char* to = stage_ + (plane_ * w.pitch + position_) * 16;
    const int* from = table(turn);
#pragma unroll 4
    for (int i = position_; i < w.positions; i += w.at_once, to += w.at_once * 16) {
      const int pixel = from[i];
      copy_piece<kWhole>(to, row_of(images, pixel, p_.a.from_shape.channels),
                         pixel >= 0 ? channels : 0);
    }
  }

  // Starts the products of the window with the filters.
  __device__ void multiply(const unsigned char* filters) {
    constexpr int kStep = kForward ? 1 : -1;
    const Window& w = p_.window;
    const auto lines = static_cast<uint32_t>(kForward ? kColumns : w.planes * 8);
    const auto pitch = static_cast<uint32_t>(w.pitch);
    // Descriptors count 16 bytes. The window, and [columns, 16] of filters, by planes of 8 k, or by
    // planes of 8 columns.
    const uint32_t first_tap = static_cast<uint32_t>(kForward ? 0 : (w.side - 1) * (w.line + 1));
    auto tap = static_cast<int64_t>(
        ptx::encode({ptx::shared_address(stage_), pitch * 16, 128, Swizzle::none}) + first_tap);
    uint64_t filter =
        kForward ? ptx::encode({ptx::shared_address(filters), lines * 16, 128, Swizzle::none})
                 : ptx::encode({ptx::shared_address(filters), 128, lines * 16, Swizzle::none});
    ptx::wgmma_keep(sums_[0]);
    ptx::wgmma_keep(sums_[1]);
    ptx::wgmma_fence();
    int accumulate = 0;
    const auto multiply_tap = [&] {
      auto a = static_cast<uint64_t>(tap);
#pragma unroll 1
      for (int k = 0; k < w.planes; k += 2) {
        ptx::wgmma_fence();
#pragma unroll
        for (int block = 0; block < 2; ++block)
          ptx::wgmma_m64k16_bf16<kColumns, ptx::Major::k,
                                 kForward ? ptx::Major::k : ptx::Major::mn>(
              sums_[block], a + block * 64, filter, accumulate);
        accumulate = 1;
        a += 2 * pitch;
        filter += kForward ? 2 * lines : 16;
      }
      if (!kForward) filter += (kChunks - 1) * lines;
      tap += kStep;
    };
    for (int u = 0; u < w.side; ++u, tap += kStep * (w.line - w.side)) {
      if (w.side == 3) {  // without the loop's own instructions
#pragma unroll
        for (int v = 0; v < 3; ++v) multiply_tap();
      } else {
#pragma unroll 1
        for (int v = 0; v < w.side; ++v) multiply_tap();
      }
    }
    ptx::wgmma_commit();
  }

  // Of this thread's positions: the pixels, and their residuals while the products are under way.
  __device__ void find_results(int first, int turn) {
    const int width = p_.a.to_shape.channels;
    const auto* residual = static_cast<const Bf16*>(p_.a.residual);
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
      const int position = row / 2 * 64 + thread_of_group() / kWarp * 16 + row % 2 * 8 + lane() / 4;
      const int pixel = table(turn)[p_.window.lead + position];
      pixels_[row] = first + position < last_ ? pixel : -1;
      if constexpr (kForward) {
        const bool present = residual && pixels_[row] >= 0;
        const Bf16* from = row_of(residual, pixels_[row], width) + lane() % 4 * 2;
#pragma unroll
        for (int j = 0; j < kChunks; ++j) {
          const int left = width - 8 * j - lane() % 4 * 2;
          residuals_[row][j] = present && left > 0 ? load_pair(from + 8 * j, left) : 0;
        }
      }
    }
  }

  // Waits for the products.
  __device__ void finish_products() {
    ptx::wgmma_wait<0>();
    ptx::wgmma_keep(sums_[0]);
    ptx::wgmma_keep(sums_[1]);
  }

  // Bias, residual and activation, and 16-byte stores.
  __device__ void write() const {
    const int width = p_.a.to_shape.channels;
    auto* to = static_cast<Bf16*>(p_.a.to);
#pragma unroll
    for (int block = 0; block < 2; ++block)
#pragma unroll
      for (int chunk = 0; chunk < 2 * kChunks; chunk += 4) {  // of two positions, one after another
        uint32_t packed[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) packed[i] = result(block, chunk + i);
        gather_quarters(packed);
        const int mine = chunk + lane() % 4, column = mine % kChunks * 8;
        const int pixel = mine < kChunks ? pixels_[2 * block] : pixels_[2 * block + 1];
        if (pixel >= 0)
          write_piece<kWhole>(row_of(to, pixel, width) + column, packed,
                              values_in_piece(width, column));
      }
  }

 private:
  static constexpr int kRows = 4;  // positions of a thread

  __device__ int* table(int turn) const { return tables_ + turn * p_.window.pitch; }

  // Of a pixel that is not negative.
  template <class T>
  static __device__ T* row_of(T* rows, int pixel, int width) {
    return rows + uint64_t{static_cast<uint32_t>(pixel)} * static_cast<uint32_t>(width);
  }

  // Two columns of a position, in chunk `chunk` of the block's two positions.
  __device__ uint32_t result(int block, int chunk) const {
    const int half = chunk / kChunks, j = chunk % kChunks;
    float low = sums_[block][4 * j + 2 * half], high = sums_[block][4 * j + 2 * half + 1];
    if constexpr (kForward) {
      const uint32_t residual = residuals_[2 * block + half][j];
      low += bias_[2 * j] + __uint_as_float(residual << 16);
      high += bias_[2 * j + 1] + __uint_as_float(residual & 0xffff0000u);
      if (p_.a.activation == ConvActivation::relu) {  // keeps NaN
        low = low < 0 ? 0 : low;
        high = high < 0 ? 0 : high;
      }
    }
    return ptx::pack_bf16(low, high);
  }

  // Two values of a row, or its last one and zero.
  static __device__ uint32_t load_pair(const Bf16* from, int count) {
    if constexpr (kWhole) return *reinterpret_cast<const uint32_t*>(from);
    return from[0].bits | (count > 1 ? static_cast<uint32_t>(from[1].bits) << 16 : 0);
  }

  // Four lanes side by side have a quarter each of four chunks: lane i gets chunk i.
  static __device__ void gather_quarters(uint32_t (&v)[4]) {
    const int i = lane() % 4;
#pragma unroll
    for (int bit = 1; bit <= 2; bit *= 2)
#pragma unroll
      for (int low = 0; low < 4; ++low) {
        if (low & bit) continue;
        const bool upper = i & bit;
        const uint32_t got = __shfl_xor_sync(kAllLanes, upper ? v[low] : v[low | bit], bit);
        v[low] = upper ? got : v[low];
        v[low | bit] = upper ? v[low | bit] : got;
      }
  }

  const WindowProduct& p_;
  unsigned char* stage_;
  int* tables_;
  int plane_, position_;  // what this thread copies, and every at_once positions further on
  int last_ = 0;          // the expert's positions end here
  Digits at_{};           // the first position that this thread has in the next table
  float bias_[kColumns / 4];
  float sums_[2][kColumns / 2];
  int pixels_[kRows];
  uint32_t residuals_[kRows][kChunks];
};

// Images that no expert has become zeros.
template <bool kWhole>
__device__ void write_window_zeros(const WindowProduct& p, int first, int end) {
  const int width = p.a.to_shape.channels, pieces = (width + 7) / 8;
  const uint32_t zeros[4] = {};
  for (int i = thread_of_group(); i < (end - first) * pieces; i += kGroup) {
    const int pixel = window_pixel(p, p.window.radix.digits(first + i / pieces)),
              column = i % pieces * 8;
    if (pixel >= 0)
      write_piece<kWhole>(static_cast<Bf16*>(p.a.to) + int64_t{pixel} * width + column, zeros,
                          values_in_piece(width, column));
  }
}

// The tiles of all experts in a row, cut into equal parts, one for each block. A block meets an
// expert's filters once; its warpgroups take the tiles in turn, each on its own: while one
// multiplies, others load and write. From memory comes every image once and goes every result, 2
// bytes for each value; shared memory gives 2 KiB of a window and 32 bytes for each column, at 128
// bytes a clock, for a product of 64 positions that takes the tensor cores half a clock for each
// column.
template <int kColumns, FilterUse kUse, bool kWhole>
__global__ void __launch_bounds__(window_threads(kColumns), window_blocks(kColumns))
    conv_window_kernel(const __grid_constant__ WindowProduct p) {
  constexpr int kGroups = window_groups(kColumns);
  const Window& w = p.window;
  unsigned char* filters = shared_memory<unsigned char>();
  const int group = __shfl_sync(kAllLanes, static_cast<int>(threadIdx.x) / kGroup, 0);
  WindowGroup<kColumns, kUse, kWhole> mine(p, filters + w.filter_bytes + group * w.group_bytes);
  int64_t all = 0;
  for (int e = 0; e <= p.a.experts; ++e) all += WindowSegment(p, e).tiles();
  const auto begin = static_cast<int>(all * blockIdx.x / gridDim.x),
             end = static_cast<int>(all * (blockIdx.x + 1) / gridDim.x);
  for (int e = 0, before = 0; e <= p.a.experts; ++e) {
    const WindowSegment segment(p, e);
    const int from = max(begin - before, 0), to = min(end - before, segment.tiles());
    before += segment.tiles();
    if (from >= to) continue;
    const int last = segment.first + segment.count;
    const auto position = [&](int tile) { return segment.first + tile * Window::kRows; };
    int tile = from + group;
    if (e == p.a.experts) {
      for (; tile < to; tile += kGroups)
        write_window_zeros<kWhole>(p, position(tile), min(position(tile + 1), last));
      continue;
    }
    __syncthreads();  // nothing reads the filters before these any more
    load_window_filters<kColumns, kUse, kWhole>(p, e, filters);
    mine.start_expert(e, position(tile), last);
    mine.fill_table(0);
    ptx::bar_sync(1 + group, kGroup);
    if (tile < to) mine.load(0);
    ptx::cp_async_commit();
    ptx::cp_async_wait<0>();
    ptx::fence_proxy_async();
    __syncthreads();
    for (int turn = 0; tile < to; tile += kGroups, turn ^= 1) {
      mine.multiply(filters);
      mine.find_results(position(tile), turn);
      mine.fill_table(turn ^ 1);
      mine.finish_products();
      ptx::bar_sync(1 + group, kGroup);  // this window has been read, the next table is there
      if (tile + kGroups < to) mine.load(turn ^ 1);
      ptx::cp_async_commit();
      mine.write();
      ptx::cp_async_wait<0>();
      ptx::fence_proxy_async();
      ptx::bar_sync(1 + group, kGroup);  // the next window is there
    }
  }
}

}  // namespace moat::kernels::sm90
