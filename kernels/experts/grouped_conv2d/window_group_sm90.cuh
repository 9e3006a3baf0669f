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

  // Starts the products of the window with the filters, 16 terms of the sums after another; the
  // last ones are still under way when the window has been read. Its rows come by ldmatrix: by
  // wgmma's own descriptors, from any position on, 2 KiB took 50 to 60 clocks (an H200, from the
  // times of 16, 32 and 64 columns), and 2 KiB of filters 16.
  __device__ void multiply(const unsigned char* filters) {
    const Window& w = p_.window;
    const auto lines = static_cast<uint32_t>(kForward ? kColumns : w.planes * 8);
    Terms at{};
    at.rows = stage_ + (kForward ? 0 : (w.side - 1) * (w.line + 1)) * 16 +
              (lane() / 16 * w.pitch + thread_of_group() / kWarp * 16 + lane() % 16) * 16;
    // [columns, 16] of filters, by planes of 8 k, or by planes of 8 columns.
    at.filter = kForward
                    ? ptx::encode({ptx::shared_address(filters), lines * 16, 128, Swizzle::none})
                    : ptx::encode({ptx::shared_address(filters), 128, lines * 16, Swizzle::none});
    ptx::wgmma_keep(sums_[0]);
    ptx::wgmma_keep(sums_[1]);
    load_rows(at, rows_[0]);
    while (multiply_terms(at, lines, rows_[0], rows_[1]) &&
           multiply_terms(at, lines, rows_[1], rows_[0])) {
    }
  }

  // Of this thread's positions: the pixels, their residuals, and which of their values the mask
  // lets through.
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

  // 16 terms of the sums: two planes of a tap.
  struct Terms {
    const unsigned char* rows;  // this lane's for ldmatrix, of the first 64 positions
    uint64_t filter;
    int plane, u, v, accumulate;
  };

  __device__ static void load_rows(const Terms& at, uint32_t (&rows)[2][4]) {
#pragma unroll
    for (int block = 0; block < 2; ++block)
      ptx::ldmatrix_x4(rows[block], at.rows + block * 64 * 16);
  }

  // Starts the products of `rows`; while they run, `next` takes the next terms' rows, whose own
  // products must be over. False when there are none.
  __device__ bool multiply_terms(Terms& at, uint32_t lines, const uint32_t (&rows)[2][4],
                                 uint32_t (&next)[2][4]) {
    ptx::wgmma_fence();
#pragma unroll
    for (int block = 0; block < 2; ++block)
      ptx::wgmma_m64k16_bf16<kColumns, kForward ? ptx::Major::k : ptx::Major::mn>(
          sums_[block], rows[block], at.filter, at.accumulate);
    ptx::wgmma_commit();
    at.accumulate = 1;
    ptx::wgmma_wait<1>();
    const bool more = advance(at, lines);
    if (more) load_rows(at, next);
    return more;
  }

  // To the next terms, unless these were the last. Descriptors count 16 bytes.
  __device__ bool advance(Terms& at, uint32_t lines) const {
    constexpr int kStep = kForward ? 1 : -1;
    const Window& w = p_.window;
    at.rows += 2 * w.pitch * 16;
    at.filter += kForward ? 2 * lines : 16;
    if ((at.plane += 2) < w.planes) return true;
    at.plane = 0;
    at.rows += (kStep - w.planes * w.pitch) * 16;
    if (!kForward) at.filter += (kChunks - 1) * lines;
    if (++at.v < w.side) return true;
    at.v = 0;
    at.rows += kStep * (w.line - w.side) * 16;
    return ++at.u < w.side;
  }

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
  uint32_t rows_[2][2][4];  // of the window, for products under way
  int pixels_[kRows];
  uint32_t residuals_[kRows][kChunks];
  uint32_t passed_[kRows];  // two bits for each chunk
};

}  // namespace moat::kernels::sm90
