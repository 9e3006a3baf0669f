#pragma once

// From the sums of a warpgroup to bf16 rows in global memory: bias, activation, a panel of 64 x 64
// in shared memory, and from there by TMA, or, where a panel holds rows of the next expert as well,
// in 16-byte stores of its own rows. One panel fills while the one before leaves.

#include "kernels/experts/activations_bf16.cuh"
#include "kernels/experts/grouped_gemm/mainloop_sm90.cuh"

namespace moat::kernels::sm90 {

class PanelWriter {
 public:
  // `panels`: two of kSquareBytes, of this warpgroup alone; `barrier`: a named barrier of its own.
  __device__ PanelWriter(unsigned char* panels, int barrier) : panels_(panels), barrier_(barrier) {}

  // Columns [column, column + 64) of rows [row, row + rows), rows at most 64; columns outside the
  // matrix are left out. values[4 j + i]: wgmma's fragment of columns 8 j to 8 j + 7.
  __device__ void write(const float (&values)[32], const Destination& to, int row, int rows,
                        int column) {
    const unsigned char* panel = fill(values);
    if (rows == kPanelRows) {
      if (thread_of_group() == 0) ptx::tma_store_2d(&to.map, panel, column, row);
    } else {
      copy(panel, to, rows, column, [&](int r) { return int64_t{row} + r; });
    }
    if (thread_of_group() == 0) ptx::bulk_commit();  // empty when there was none: panels take turns
  }

  // Rows that do not lie one after another: row_at(0), …, row_at(rows - 1).
  template <class RowAt>
  __device__ void write_apart(const float (&values)[32], const Destination& to, int rows,
                              int column, RowAt&& row_at) {
    copy(fill(values), to, rows, column, row_at);
    if (thread_of_group() == 0) ptx::bulk_commit();
  }

  // Before the block ends: nothing reads the panels any more.
  __device__ void finish() const {
    if (thread_of_group() == 0) ptx::bulk_wait_read<0>();
  }

 private:
  // The values in the next panel, which the asynchronous proxy sees as well.
  __device__ unsigned char* fill(const float (&values)[32]) {
    const int thread = thread_of_group();
    unsigned char* panel = panels_ + turn_ * kSquareBytes;
    turn_ ^= 1;
    if (thread == 0) ptx::bulk_wait_read<1>();  // the last store but one, from this panel
    ptx::bar_sync(barrier_, kGroup);
    // Two chunks side by side, by the halves of the warp; the others are an exclusive or away.
    const int line = thread / kWarp * 16 + lane() % 16;
    const int first = line * 128 + (lane() / 16 ^ line % 8) * 16;
#pragma unroll
    for (int j = 0; j < 8; j += 2) {
      const uint32_t packed[4] = {
          ptx::pack_bf16(values[4 * j], values[4 * j + 1]),
          ptx::pack_bf16(values[4 * j + 2], values[4 * j + 3]),
          ptx::pack_bf16(values[4 * j + 4], values[4 * j + 5]),
          ptx::pack_bf16(values[4 * j + 6], values[4 * j + 7]),
      };
      ptx::stmatrix_x4(panel + (first ^ j * 16), packed);
    }
    ptx::fence_proxy_async();
    ptx::bar_sync(barrier_, kGroup);
    return panel;
  }
  template <class RowAt>
  __device__ void copy(const unsigned char* panel, const Destination& to, int rows, int column,
                       RowAt&& row_at) const {
    const int chunk = thread_of_group() % 8, c = column + chunk * 8;
    for (int r = thread_of_group() / 8; r < rows && c < to.width; r += kGroup / 8)
      *reinterpret_cast<uint4*>(to.base + row_at(r) * to.stride + c) =
          *reinterpret_cast<const uint4*>(panel + r * 128 +
                                          (chunk ^ r % 8) * 16);  // as TMA swizzles
  }
  unsigned char* panels_;
  int barrier_, turn_ = 0;
};

// A tile's epilogue for one warpgroup: sums are of its T::kBlocks times 64 rows, of which `rows`
// from `row` on are the expert's.
template <class T>
class TileWriter {
 public:
  __device__ TileWriter(const Product& p, PanelWriter& panels) : p_(p), panels_(panels) {}

  // All panels go through the same code, some thousand instructions: a copy for each would not stay
  // in the instruction cache. Registers have no addresses: the sums move up panel by panel, and are
  // lost. A large tile (is_large) has no registers left for a loop, nor activations.
  __device__ void write(typename T::Sums& sums, const GroupedTile& tile, int row, int rows) {
    if constexpr (!T::kIsLarge)
      if (is_gated(p_.a)) return write_gated(sums, tile, row, rows);
    constexpr int kAcross = T::kColumns / kPanelColumns, kPanels = T::kBlocks * kAcross;
#pragma unroll(T::kIsLarge ? kPanels : 1)
    for (int panel = 0; panel < kPanels; ++panel) {
      const int below = panel / kAcross * kPanelRows, panel_rows = min(rows - below, kPanelRows),
                column = tile.column + panel % kAcross * kPanelColumns;
      if (panel_rows > 0 && column < p_.y.width) {
        float values[32];
        add_bias(values, sums[0], 0, tile.expert, column);
        if constexpr (!T::kIsLarge) {
          if (p_.pre.base) panels_.write(values, p_.pre, row + below, panel_rows, column);
          with_bf16_function(p_.a.activation, [&]<class Function>() {
#pragma unroll
            for (float& v : values) v = Function::value(v);
          });
        }
        panels_.write(values, p_.y, row + below, panel_rows, column);
      }
#pragma unroll
      for (int p = 0; p + 1 < kPanels; ++p)
#pragma unroll
        for (int i = 0; i < 32; ++i)
          sums[p / kAcross][p % kAcross * 32 + i] =
              sums[(p + 1) / kAcross][(p + 1) % kAcross * 32 + i];
    }
  }

  // Zeros for rows behind the last expert's.
  __device__ void write_zeros(const GroupedTile& tile, int row, int rows) const {
    const int part = is_gated(p_.a) ? 2 : 1;
    zero(p_.y, row, rows, tile.column / part, T::kColumns / part);
    if (p_.pre.base) zero(p_.pre, row, rows, tile.column / part, T::kColumns / part);
    if (p_.pre.base && part == 2) zero(p_.pre_values, row, rows, tile.column / 2, T::kColumns / 2);
  }

 private:
  __device__ void write_gated(const typename T::Sums& sums, const GroupedTile& tile, int row,
                              int rows) {
    constexpr int kHalf = T::kColumns / 2;
    static_assert(kHalf % kPanelColumns == 0);
#pragma unroll
    for (int b = 0; b < T::kBlocks; ++b)
#pragma unroll
      for (int c = 0; c < kHalf; c += kPanelColumns) {
        const int panel_rows = min(rows - b * 64, kPanelRows), column = tile.column / 2 + c;
        if (panel_rows <= 0 || column >= p_.y.width) continue;
        float gates[32], values[32];
        add_bias(gates, sums[b], c, tile.expert, column);
        add_bias(values, sums[b], kHalf + c, tile.expert, p_.y.width + column);
        if (p_.pre.base) {
          panels_.write(gates, p_.pre, row + b * 64, panel_rows, column);
          panels_.write(values, p_.pre_values, row + b * 64, panel_rows, column);
        }
#pragma unroll
        for (int i = 0; i < 32; ++i) values[i] *= Bf16Silu::value(gates[i]);
        panels_.write(values, p_.y, row + b * 64, panel_rows, column);
      }
  }

  // The sums of 64 columns of the tile from c on, which are w's from `column` on, with their bias.
  __device__ void add_bias(float (&values)[32], const float (&sums)[T::kColumns / 2], int c,
                           int expert, int column) const {
    const float* bias = static_cast<const float*>(p_.a.bias) + int64_t{expert} * p_.a.n;
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const int at = column + 8 * j + lane() % 4 * 2;
      float2 added{0, 0};
      if (p_.a.bias && at < p_.a.n) added = *reinterpret_cast<const float2*>(bias + at);
#pragma unroll
      for (int i = 0; i < 4; ++i)
        values[4 * j + i] = sums[c / 2 + 4 * j + i] + (i % 2 == 0 ? added.x : added.y);
    }
  }

  // `columns` columns from `first` on, 16 bytes at a time by the warpgroup.
  __device__ void zero(const Destination& to, int row, int rows, int first, int columns) const {
    const int chunks = min(columns, to.width - first) / 8;
    for (int i = thread_of_group(); i < rows * chunks; i += kGroup)
      *reinterpret_cast<uint4*>(to.base + int64_t{row + i / chunks} * to.stride + first +
                                i % chunks * 8) = uint4{0, 0, 0, 0};
  }

  const Product& p_;
  PanelWriter& panels_;
};

}  // namespace moat::kernels::sm90
