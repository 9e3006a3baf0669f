#pragma once

// From the sums of a warpgroup to pixels: bias, residual, activation, and the panels of
// grouped_gemm/epilogue_sm90.cuh.

#include "kernels/experts/grouped_conv2d/load_sm90.cuh"
#include "kernels/experts/grouped_gemm/epilogue_sm90.cuh"

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
  // Of the forward product: 64 channels of 64 pixels, of which this thread has two neighbouring
  // channels of two pixels in each group of four values.
  __device__ void finish(float (&values)[32], int expert, int first, int rows, int column) const {
    if (p_.a.use != FilterUse::forward) return;
    const float* bias = static_cast<const float*>(p_.a.bias) + int64_t{expert} * p_.to.width;
    const int row = thread_of_group() / kWarp * 16 + lane() / 4;
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const int at = column + 8 * j + lane() % 4 * 2;
      if (at >= p_.to.width) continue;
      float2 added{0, 0};
      if (p_.a.bias) added = *reinterpret_cast<const float2*>(bias + at);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float &low = values[4 * j + 2 * half], &high = values[4 * j + 2 * half + 1];
        low += added.x, high += added.y;
        if (p_.a.residual && row + 8 * half < rows) {
          const uint32_t both = *reinterpret_cast<const uint32_t*>(
              static_cast<const Bf16*>(p_.a.residual) +
              int64_t{first + row + 8 * half} * p_.to.width + at);
          low += __uint_as_float(both << 16), high += __uint_as_float(both & 0xffff0000u);
        }
        if (p_.a.activation == ConvActivation::relu) {  // keeps NaN
          low = low < 0 ? 0 : low;
          high = high < 0 ? 0 : high;
        }
      }
    }
  }

  const PixelProduct& p_;
  PanelWriter& panels_;
};

}  // namespace moat::kernels::sm90
