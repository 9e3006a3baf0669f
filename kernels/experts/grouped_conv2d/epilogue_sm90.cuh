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
  // 64 channels of 64 pixels, of which this thread has two neighbouring channels of two pixels in
  // each group of four values.
  __device__ void finish(float (&values)[32], int expert, int first, int rows, int column) const {
    const float* bias = static_cast<const float*>(p_.a.bias) + int64_t{expert} * p_.to.width;
    const int row = thread_of_group() / kWarp * 16 + lane() / 4;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const bool present = row + 8 * half < rows;
      const int64_t pixel =
          present ? pixel_of(p_.pixels, p_.a.to_shape, first + row + 8 * half) : 0;
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const int at = column + 8 * j + lane() % 4 * 2;
        if (!present || at >= p_.to.width) continue;
        float &low = values[4 * j + 2 * half], &high = values[4 * j + 2 * half + 1];
        if (p_.a.bias) {
          const float2 added = *reinterpret_cast<const float2*>(bias + at);
          low += added.x, high += added.y;
        }
        if (p_.a.residual) {
          const float2 added = pair_at(p_.a.residual, pixel, at);
          low += added.x, high += added.y;
        }
        if (p_.a.mask) {
          const float2 x = pair_at(p_.a.mask, pixel, at);
          low = behind_relu(low, x.x), high = behind_relu(high, x.y);
        }
        if (p_.a.activation == ConvActivation::relu) {  // keeps NaN
          low = low < 0 ? 0 : low;
          high = high < 0 ? 0 : high;
        }
      }
    }
  }

  __device__ float2 pair_at(const void* images, int64_t pixel, int channel) const {
    const uint32_t both = *reinterpret_cast<const uint32_t*>(static_cast<const Bf16*>(images) +
                                                             pixel * p_.to.width + channel);
    return {__uint_as_float(both << 16), __uint_as_float(both & 0xffff0000u)};
  }

  const PixelProduct& p_;
  PanelWriter& panels_;
};

}  // namespace moat::kernels::sm90
