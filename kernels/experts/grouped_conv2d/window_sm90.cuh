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
  static constexpr int kRows = 128;               // positions of a tile
  static constexpr int kGroups = 2, kStages = 2;  // warpgroups, and windows of each
  static constexpr int kThreads = kGroups * kGroup;

  int height, width, padding;
  int channels;  // gathered from
  int columns;   // written, and zeros up to 16, 32 or 64

  __host__ __device__ constexpr int side() const { return 2 * padding + 1; }
  __host__ __device__ constexpr int taps() const { return side() * side(); }
  __host__ __device__ constexpr int line() const { return width + padding; }
  __host__ __device__ constexpr int image() const { return (height + padding) * line(); }
  __host__ __device__ constexpr int lead() const { return padding * (line() + 1); }
  __host__ __device__ constexpr int positions() const { return kRows + 2 * lead(); }
  // Planes come in pairs, 16 values of the sum; behind the last channel they are zeros.
  __host__ __device__ constexpr int planes() const { return (channels + 15) / 16 * 2; }
  // Positions from plane to plane: eight lanes that store 16 bytes each meet all banks.
  __host__ __device__ constexpr int pitch() const {
    const int step = 8 / planes() > 1 ? 8 / planes() : 1;
    return (positions() + 7) / 8 * 8 + step % 8;
  }
  __host__ __device__ constexpr int stage_bytes() const { return planes() * pitch() * 16; }
  __host__ __device__ constexpr int filter_bytes() const {
    return taps() * planes() * columns * 16;
  }
  __host__ __device__ constexpr int shared_bytes() const {
    return filter_bytes() + kGroups * kStages * stage_bytes();
  }
};

// Blocks on a multiprocessor that registers leave room for.
constexpr int window_blocks(int columns) { return columns == 64 ? 1 : 2; }

struct WindowProduct {
  ConvProduct a;
  Window window;
};

// The positions of an expert's images, in tiles.
struct WindowSegment {
  int first, count;
  __device__ WindowSegment(const WindowProduct& p, int expert)
      : first(segment_start(p.a.offsets, expert, p.a.n) * p.window.image()),
        count(max((expert < p.a.experts ? segment_start(p.a.offsets, expert + 1, p.a.n) : p.a.n) *
                          p.window.image() -
                      first,
                  0)) {}
  __device__ int tiles() const { return (count + Window::kRows - 1) / Window::kRows; }
};

// Where a position's pixel is among those of all images; absent in the padding and outside.
struct WindowPixel {
  int64_t number;
  bool present;
  __device__ WindowPixel(const WindowProduct& p, const Digits& at)
      : number((int64_t{at.high} * p.window.height + at.middle) * p.window.width + at.low),
        present(at.high >= 0 && at.high < p.a.n && at.middle < p.window.height &&
                at.low < p.window.width) {}
};

// Eight values to shared memory, the first `count` from `from` and zeros after them; `whole` where
// they come in aligned 16 bytes, all of them or none.
__device__ inline void copy_piece(unsigned char* to, const Bf16* from, int count, bool whole) {
  if (whole) {
    ptx::cp_async<16>(to, from, count > 0 ? 16 : 0);
    return;
  }
  uint32_t words[4] = {};
#pragma unroll
  for (int i = 0; i < 8; ++i)
    if (i < count) words[i / 2] |= static_cast<uint32_t>(from[i].bits) << i % 2 * 16;
  *reinterpret_cast<uint4*>(to) = uint4{words[0], words[1], words[2], words[3]};
}
// Of a row's `width` values, those in the piece from `first` on.
__device__ inline int values_in_piece(int width, int first) {
  return min(max(width - first, 0), 8);
}

__device__ inline Radix window_radix(const Window& w) { return {w.height + w.padding, w.line()}; }

// The filters of an expert, by all threads. Forward a plane holds 8 input channels of every output
// channel, along k; in the input gradient 8 input channels (what is written) of every output
// channel (what is summed over), along the columns.
template <int kColumns, FilterUse kUse>
__device__ void load_window_filters(const WindowProduct& p, int expert, unsigned char* filters) {
  const Window& w = p.window;
  const Conv2dGeometry& g = p.a.geometry;
  constexpr bool kForward = kUse == FilterUse::forward;
  const int lines = kForward ? kColumns : w.planes() * 8,
            planes = kForward ? w.planes() : kColumns / 8, taps = w.taps();
  const Bf16* from = static_cast<const Bf16*>(p.a.filters) + expert * p.a.filter_stride;
  for (int i = static_cast<int>(threadIdx.x); i < taps * planes * lines; i += Window::kThreads) {
    const int rest = i / planes, plane = i % planes, tap = rest % taps, line = rest / taps;
    const int count = line < g.c_out ? values_in_piece(g.c_in, plane * 8) : 0;
    copy_piece(filters + ((tap * planes + plane) * lines + line) * 16,
               count > 0 ? from + (int64_t{line} * taps + tap) * g.c_in + plane * 8 : from, count,
               g.c_in % 8 == 0);
  }
}

// A tile's window, by the 128 threads of a warpgroup: neighbouring lanes copy a pixel's planes.
__device__ inline void load_window(const WindowProduct& p, int first, unsigned char* stage) {
  const Window& w = p.window;
  const int planes = w.planes(), at_once = kGroup / planes, plane = thread_of_group() % planes;
  int position = thread_of_group() / planes;
  if (position >= at_once) return;  // planes do not always divide the threads
  const Bf16* images = static_cast<const Bf16*>(p.a.from);
  const Radix radix = window_radix(w);
  const Digits step = radix.digits(at_once);
  Digits at = radix.digits(first - w.lead() + w.image() + position);  // one image on: not negative
  const int channels = values_in_piece(w.channels, plane * 8);
#pragma unroll 4
  for (; position < w.positions(); position += at_once, at = radix.sum(at, step)) {
    const WindowPixel pixel(p, {at.high - 1, at.middle, at.low});
    const int count = pixel.present ? channels : 0;
    copy_piece(stage + (plane * w.pitch() + position) * 16,
               count > 0 ? images + pixel.number * w.channels + plane * 8 : images, count,
               w.channels % 8 == 0);
  }
}

// sums[b]: positions 64 b … of the tile.
template <int kColumns, FilterUse kUse>
__device__ void multiply_window(const WindowProduct& p, uint32_t filters, uint32_t stage,
                                float (&sums)[2][kColumns / 2]) {
  constexpr bool kForward = kUse == FilterUse::forward;
  constexpr ptx::Major kMajor = kForward ? ptx::Major::k : ptx::Major::mn;
  const Window& w = p.window;
  const int side = w.side(), planes = w.planes();
  const auto lines = static_cast<uint32_t>(kForward ? kColumns : planes * 8);
  const auto pitch = static_cast<uint32_t>(w.pitch());
  ptx::wgmma_keep(sums[0]);
  ptx::wgmma_keep(sums[1]);
  ptx::wgmma_fence();
  uint32_t filter = filters;
#pragma unroll 1
  for (int u = 0; u < side; ++u)
#pragma unroll 1
    for (int v = 0; v < side; ++v) {
      const int tap = kForward ? u * w.line() + v : (side - 1 - u) * w.line() + side - 1 - v;
#pragma unroll 1
      for (int k = 0; k < planes; k += 2) {
        ptx::wgmma_fence();
        // b: [columns, 16], by planes of 8 k, or by planes of 8 columns.
        const uint64_t b = kForward ? ptx::encode({filter, lines * 16, 128, Swizzle::none})
                                    : ptx::encode({filter, 128, lines * 16, Swizzle::none});
        const uint32_t a =
            stage + (static_cast<uint32_t>(k) * pitch + static_cast<uint32_t>(tap)) * 16;
#pragma unroll
        for (uint32_t block = 0; block < 2; ++block)
          ptx::wgmma_m64k16_bf16<kColumns, ptx::Major::k, kMajor>(
              sums[block], ptx::encode({a + block * 64 * 16, pitch * 16, 128, Swizzle::none}), b,
              u + v + k);
        filter += kForward ? 2 * lines * 16 : 256;
      }
      if (!kForward) filter += (kColumns / 8 - 1) * lines * 16;
    }
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>();
  ptx::wgmma_keep(sums[0]);
  ptx::wgmma_keep(sums[1]);
}

// Four lanes side by side have a quarter each of four chunks: lane i gets chunk i.
__device__ inline void gather_quarters(uint32_t (&v)[4]) {
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

// The first `count` of eight values, as copy_piece().
__device__ inline void write_piece(Bf16* to, const uint32_t (&words)[4], int count, bool whole) {
  if (whole) {
    if (count > 0) *reinterpret_cast<uint4*>(to) = uint4{words[0], words[1], words[2], words[3]};
    return;
  }
#pragma unroll
  for (int i = 0; i < 8; ++i)
    if (i < count) to[i].bits = static_cast<uint16_t>(words[i / 2] >> i % 2 * 16);
}

// Two values of a row, or its last one and zero; `paired` where they are aligned 4 bytes.
__device__ inline uint32_t load_pair(const Bf16* from, int count, bool paired) {
  if (paired) return *reinterpret_cast<const uint32_t*>(from);
  return from[0].bits | (count > 1 ? static_cast<uint32_t>(from[1].bits) << 16 : 0);
}

// Bias, residual and activation of 64 positions, and 16-byte stores. This thread has two columns in
// each group of eight, of two positions.
template <int kColumns, FilterUse kUse>
__device__ void write_window(const WindowProduct& p, int expert, int first, int end,
                             const float (&sums)[kColumns / 2]) {
  constexpr int kChunks = kColumns / 8;  // of a position
  const int width = p.a.to_shape.channels;
  const auto* bias = static_cast<const float*>(p.a.bias) + int64_t{expert} * width;
  const auto* residual = static_cast<const Bf16*>(p.a.residual);
  auto* to = static_cast<Bf16*>(p.a.to);
  int64_t pixel[2];
  bool present[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int position = first + thread_of_group() / kWarp * 16 + lane() / 4 + 8 * half;
    const WindowPixel found(p, window_radix(p.window).digits(position));
    pixel[half] = found.number * width;
    present[half] = found.present && position < end;
  }
#pragma unroll
  for (int chunk = 0; chunk < 2 * kChunks; chunk += 4) {  // of the first position, then the second
    uint32_t packed[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int half = (chunk + i) / kChunks, j = (chunk + i) % kChunks;
      float values[2] = {sums[4 * j + 2 * half], sums[4 * j + 2 * half + 1]};
      if constexpr (kUse == FilterUse::forward) {
        const int column = 8 * j + lane() % 4 * 2;
        uint32_t added = 0;
        if (p.a.residual && present[half] && column < width)
          added = load_pair(residual + pixel[half] + column, width - column, width % 2 == 0);
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          if (p.a.bias && column + c < width) values[c] += bias[column + c];
          values[c] += __uint_as_float(c == 0 ? added << 16 : added & 0xffff0000u);
          if (p.a.activation == ConvActivation::relu)  // keeps NaN
            values[c] = values[c] < 0 ? 0 : values[c];
        }
      }
      packed[i] = ptx::pack_bf16(values[0], values[1]);
    }
    gather_quarters(packed);
    const int mine = chunk + lane() % 4, column = mine % kChunks * 8;
    const bool second = mine >= kChunks;
    if (second ? present[1] : present[0])
      write_piece(to + (second ? pixel[1] : pixel[0]) + column, packed,
                  values_in_piece(width, column), width % 8 == 0);
  }
}

// Images that no expert has become zeros.
__device__ inline void write_window_zeros(const WindowProduct& p, int first, int end) {
  const int width = p.a.to_shape.channels, pieces = (width + 7) / 8;
  const uint32_t zeros[4] = {};
  for (int i = thread_of_group(); i < (end - first) * pieces; i += kGroup) {
    const WindowPixel pixel(p, window_radix(p.window).digits(first + i / pieces));
    const int column = i % pieces * 8;
    if (pixel.present)
      write_piece(static_cast<Bf16*>(p.a.to) + pixel.number * width + column, zeros,
                  values_in_piece(width, column), width % 8 == 0);
  }
}

// The tiles of all experts in a row, cut into equal parts, one for each block. A block meets an
// expert's filters once; its warpgroups take the tiles in turn, and each loads its next window
// while it multiplies. From memory comes every image once and goes every result, 2 bytes for each
// value; shared memory gives 2 KiB of a window and 32 bytes for each column, at 128 bytes a clock,
// for a product of 64 positions that takes the tensor cores half a clock for each column.
template <int kColumns, FilterUse kUse>
__global__ void __launch_bounds__(Window::kThreads, window_blocks(kColumns))
    conv_window_kernel(const __grid_constant__ WindowProduct p) {
  const Window& w = p.window;
  unsigned char* filters = shared_memory<unsigned char>();
  unsigned char* stages = filters + w.filter_bytes() + group() * Window::kStages * w.stage_bytes();
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
    if (e == p.a.experts) {
      for (int tile = from + group(); tile < to; tile += Window::kGroups) {
        const int first = segment.first + tile * Window::kRows;
        write_window_zeros(p, first, min(first + Window::kRows, last));
      }
      continue;
    }
    __syncthreads();  // nothing reads the filters before these any more
    load_window_filters<kColumns, kUse>(p, e, filters);
    int tile = from + group(), turn = 0;
    if (tile < to) load_window(p, segment.first + tile * Window::kRows, stages);
    ptx::cp_async_commit();
    ptx::cp_async_wait<0>();
    ptx::fence_proxy_async();
    __syncthreads();
    for (; tile < to; tile += Window::kGroups, turn ^= 1) {
      const int first = segment.first + tile * Window::kRows, next = tile + Window::kGroups;
      if (next < to)
        load_window(p, segment.first + next * Window::kRows, stages + (turn ^ 1) * w.stage_bytes());
      ptx::cp_async_commit();
      float sums[2][kColumns / 2];
      multiply_window<kColumns, kUse>(p, ptx::shared_address(filters),
                                      ptx::shared_address(stages + turn * w.stage_bytes()), sums);
#pragma unroll
      for (int block = 0; block < 2; ++block)
        write_window<kColumns, kUse>(p, e, first + block * 64, last, sums[block]);
      ptx::cp_async_wait<0>();
      ptx::fence_proxy_async();
      ptx::bar_sync(1 + group(), kGroup);  // the next window is there, this one has been read
    }
  }
}

}  // namespace moat::kernels::sm90
