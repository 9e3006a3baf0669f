#pragma once

// From the sums of a warpgroup to pixels: bias, residual, activation or mask, and the panels of
// grouped_gemm/epilogue_sm90.cuh.

#include "kernels/experts/grouped_conv2d/load_sm90.cuh"
#include "kernels/experts/grouped_gemm/epilogue_sm90.cuh"
#include "kernels/vision/conv2d_finish.h"

namespace moat::kernels::sm90 {

template <class T>
class PixelWriter {
 public:
  __device__ PixelWriter(const PixelProduct& p, PanelWriter& panels) : p_(p), panels_(panels) {}

  // Sums are of T::kBlocks times 64 pixels, of which `rows` from `row` on are the expert's.
  __device__ void write(const typename T::Sums& sums, const GroupedTile& tile, int row, int rows) {
#pragma unroll
    for (int b = 0; b < T::kBlocks; ++b)
#pragma unroll
      for (int c = 0; c < T::kColumns; c += kPanelColumns) {
        const int first = row + b * 64, panel_rows = min(rows - b * 64, kPanelRows),
                  column = tile.column + c;
        if (panel_rows <= 0 || column >= p_.to.width) continue;
        float values[32];
#pragma unroll
        for (int i = 0; i < 32; ++i) values[i] = sums[b][c / 2 + i];
        finish(values, tile.expert, first, panel_rows, column);
        if (p_.pixels.spacing == 1)
          panels_.write(values, p_.to, first, panel_rows, column);
        else
          panels_.write_apart(values, p_.to, panel_rows, column,
                              [&](int r) { return pixel_of(p_.pixels, p_.a.to_shape, first + r); });
      }
  }

  // Zeros, 16 bytes at a time by the warpgroup.
  __device__ void write_zeros(const GroupedTile& tile, int row, int rows) const {
    const int chunks = min(T::kColumns, p_.to.width - tile.column) / 8;
    for (int i = thread_of_group(); i < rows * chunks; i += kGroup)
      *reinterpret_cast<uint4*>(
          p_.to.base + pixel_of(p_.pixels, p_.a.to_shape, row + i / chunks) * p_.to.stride +
          tile.column + i % chunks * 8) = uint4{0, 0, 0, 0};
  }

 private:
  static constexpr int kChunks = kPanelColumns / 8;

  // 64 channels of 64 pixels, of which this thread has two neighbouring channels of two pixels in
  // each group of four values. All of a panel's loads are under way before one is waited for.
  __device__ void finish(float (&values)[32], int expert, int first, int rows, int column) const {
    const int row = thread_of_group() / kWarp * 16 + lane() / 4;
    const int chunks = min(kChunks, (p_.to.width - column) / 8);
    int64_t at[2];  // of the pixels' first pairs in the images, or -1
#pragma unroll
    for (int half = 0; half < 2; ++half)
      at[half] = row + 8 * half < rows
                     ? pixel_of(p_.pixels, p_.a.to_shape, first + row + 8 * half) * p_.to.width +
                           column + lane() % 4 * 2
                     : -1;
    uint32_t residual[2][kChunks] = {}, mask[2][kChunks] = {};
    float2 bias[kChunks] = {};
    if (p_.a.residual) load(residual, p_.a.residual, at, chunks);
    if (p_.a.mask) load(mask, p_.a.mask, at, chunks);
    if (p_.a.bias) {
      const float* from = static_cast<const float*>(p_.a.bias) + int64_t{expert} * p_.to.width +
                          column + lane() % 4 * 2;
#pragma unroll
      for (int j = 0; j < kChunks; ++j)
        if (j < chunks) bias[j] = *reinterpret_cast<const float2*>(from + 8 * j);
    }
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int j = 0; j < kChunks; ++j) {
        float &low = values[4 * j + 2 * half], &high = values[4 * j + 2 * half + 1];
        low += bias[j].x, high += bias[j].y;
        low += low_of(residual[half][j]), high += high_of(residual[half][j]);
        if (p_.a.mask) {
          low = behind_relu(low, low_of(mask[half][j]));
          high = behind_relu(high, high_of(mask[half][j]));
        }
        if (p_.a.activation == ConvActivation::relu) {  // keeps NaN
          low = low < 0 ? 0 : low;
          high = high < 0 ? 0 : high;
        }
      }
  }

  static __device__ void load(uint32_t (&pairs)[2][kChunks], const void* images,
                              const int64_t (&at)[2], int chunks) {
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int j = 0; j < kChunks; ++j)
        if (at[half] >= 0 && j < chunks)
          pairs[half][j] = *reinterpret_cast<const uint32_t*>(static_cast<const Bf16*>(images) +
                                                              at[half] + 8 * j);
  }
  static __device__ float low_of(uint32_t pair) { return __uint_as_float(pair << 16); }
  static __device__ float high_of(uint32_t pair) { return __uint_as_float(pair & 0xffff0000u); }

  const PixelProduct& p_;
  PanelWriter& panels_;
};

}  // namespace moat::kernels::sm90
