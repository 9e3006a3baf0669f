#pragma once

// One warpgroup of a convolution in windows (window_sm90.cuh): from a tile's positions to its
// results.

#include "kernels/experts/grouped_conv2d/window_shape_sm90.cuh"

namespace moat::kernels::sm90 {

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
    const int width = p_.a.from_shape.channels, channels = values_in_piece(width, plane_ * 8);
    const Bf16* images = static_cast<const Bf16*>(p_.a.from) + (channels > 0 ? plane_ * 8 : 0);
    unsigned char* to = stage_ + (plane_ * w.pitch + position_) * 16;
    const int* from = table(turn);
#pragma unroll 4
    for (int i = position_; i < w.positions; i += w.at_once, to += w.at_once * 16) {
      const int pixel = from[i];
      copy_piece(to, row_of(images, pixel, width), pixel >= 0 ? channels : 0,
                 is_whole<kWhole>(width));
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

  // Of this thread's positions, while the products are under way: the pixels, their residuals, and
  // which of their values the mask lets through.
  __device__ void find_results(int first, int turn) {
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
      const int position = row / 2 * 64 + thread_of_group() / kWarp * 16 + row % 2 * 8 + lane() / 4;
      const int pixel = table(turn)[p_.window.lead + position];
      pixels_[row] = first + position < last_ ? pixel : -1;
    }
    each_pair(static_cast<const Bf16*>(p_.a.residual),
              [&](int row, int j, uint32_t pair) { residuals_[row][j] = pair; });
    if constexpr (!kForward) {
#pragma unroll
      for (uint32_t& passed : passed_) passed = ~0u;
      if (const auto* mask = static_cast<const Bf16*>(p_.a.mask))
        each_pair(mask, [&](int row, int j, uint32_t pair) {
          if (low_of(pair) <= 0) passed_[row] ^= 1u << 2 * j;
          if (high_of(pair) <= 0) passed_[row] ^= 2u << 2 * j;
        });
    }
  }

  // Waits for the products.
  __device__ void finish_products() {
    ptx::wgmma_wait<0>();
    ptx::wgmma_keep(sums_[0]);
    ptx::wgmma_keep(sums_[1]);
  }

  // Bias, residual, activation and mask, and 16-byte stores.
  __device__ void write() const {
    const int width = p_.a.to_shape.channels;
    auto* to = static_cast<Bf16*>(p_.a.to);
    each_four([&](int block, int chunk) {
      uint32_t packed[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) packed[i] = result(block, chunk + i);
      exchange_quarters(packed);
      const Piece mine = piece(block, chunk);
      if (mine.pixel >= 0)
        write_piece(row_of(to, mine.pixel, width) + mine.column, packed,
                    values_in_piece(width, mine.column), is_whole<kWhole>(width));
    });
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
    const uint32_t residual = residuals_[2 * block + half][j];
    float low = sums_[block][4 * j + 2 * half] + low_of(residual),
          high = sums_[block][4 * j + 2 * half + 1] + high_of(residual);
    if constexpr (kForward) {
      low += bias_[2 * j];
      high += bias_[2 * j + 1];
      if (p_.a.activation == ConvActivation::relu) {  // keeps NaN
        low = low < 0 ? 0 : low;
        high = high < 0 ? 0 : high;
      }
    } else {
      const uint32_t passed = passed_[2 * block + half] >> 2 * j;
      low = passed & 1 ? low : 0;
      high = passed & 2 ? high : 0;
    }
    return ptx::pack_bf16(low, high);
  }

  static __device__ float low_of(uint32_t pair) { return __uint_as_float(pair << 16); }
  static __device__ float high_of(uint32_t pair) { return __uint_as_float(pair & 0xffff0000u); }

  // f(block, chunk) for the chunks of a block's two positions, one after another, four at a time.
  template <class F>
  static __device__ void each_four(F&& f) {
#pragma unroll
    for (int block = 0; block < 2; ++block)
#pragma unroll
      for (int chunk = 0; chunk < 2 * kChunks; chunk += 4) f(block, chunk);
  }

  // The one of these four chunks that this lane moves: 16 bytes. Its own pairs would be four times
  // as many accesses, each of eight lines.
  struct Piece {
    int pixel, column;
  };
  __device__ Piece piece(int block, int chunk) const {
    const int mine = chunk + lane() % 4;
    return {mine < kChunks ? pixels_[2 * block] : pixels_[2 * block + 1], mine % kChunks * 8};
  }

  // f(row, j, this thread's two values of chunk j) of its pixels; zeros where there are none.
  template <class F>
  __device__ void each_pair(const Bf16* images, F&& f) const {
    const int width = p_.a.to_shape.channels;
    each_four([&](int block, int chunk) {
      uint32_t pairs[4] = {};
      if (images) {
        const Piece mine = piece(block, chunk);
        if (mine.pixel >= 0)
          read_piece(row_of(images, mine.pixel, width) + mine.column, pairs,
                     values_in_piece(width, mine.column), is_whole<kWhole>(width));
        exchange_quarters(pairs);
      }
#pragma unroll
      for (int i = 0; i < 4; ++i)
        f(2 * block + (chunk + i) / kChunks, (chunk + i) % kChunks, pairs[i]);
    });
  }

  // Four lanes side by side have a quarter each of four chunks: lane i gets chunk i. And back.
  static __device__ void exchange_quarters(uint32_t (&v)[4]) {
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
  uint32_t passed_[kRows];  // two bits for each chunk
};

}  // namespace moat::kernels::sm90
