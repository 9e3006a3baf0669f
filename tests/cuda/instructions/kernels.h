#pragma once

// The kernels of the hardware differential test, called from their families' *_cases.cpp, where the
// words that go in and come out are described.

#include <cstdint>

#include "kernels/target.h"

namespace moat::tests {

using RunInstruction = kernels::Status(kernels::Cuda, const uint32_t* in, uint32_t* out);

inline constexpr int kRounded = 512;  // floats that the roundings are tried on

RunInstruction run_cp_async, run_cp_async_l1, run_cp_async_groups, run_prefetch, run_pack_bf16,
    run_round_tf32, run_exp2, run_reciprocal;

RunInstruction run_ldmatrix, run_ldmatrix_trans, run_stmatrix, run_mma_bf16, run_mma_tf32,
    run_mma_from_ldmatrix;

RunInstruction run_named_barriers, run_mbarrier_phases, run_setmaxnreg;

// Tensors and boxes of the TMA kernels, elements; in 2-D z = 1.
inline constexpr int kTensor[3] = {72, 11, 3}, kPitch = 80;
inline constexpr int kRows = 8;  // of a box, and 2 planes in 3-D
// Images [3, 5, 7, 64] and the copies of 24 of their pixels. The walk: 4 rows from -2 on and 4
// columns from -1 on, 2 apart.
struct PixelCopy {
  int channel, x, y, n, right, down;
};
inline constexpr int kImages[4] = {64, 7, 5, 3}, kCopied = 24;
inline constexpr int kWalk[2] = {-1, -2}, kWalkLength = 4, kWalkStride = 2;
inline constexpr PixelCopy kPixelCopies[] = {
    {0, -1, -2, 0, 0, 0},   // from the first pixel on, more than an image
    {0, 3, 2, 1, 1, 2},     // from the middle, moved, into the third image
    {32, 5, 4, 2, 2, 0},    // half of the channels, and pixels behind the last
    {0, -1, -2, 2, 255, 0}  // as far as they can be moved
};
RunInstruction run_tma_load_plain, run_tma_load_2d, run_tma_load_3d, run_tma_load_4d,
    run_tma_load_pixels, run_tma_store;

// Products [64, N] of K = kDepth.
inline constexpr int kDepth = 64;
RunInstruction run_wgmma_16_rows, run_wgmma_32_rows, run_wgmma_64_rows, run_wgmma_64_rows_mn,
    run_wgmma_64, run_wgmma_128, run_wgmma_192, run_wgmma_256, run_wgmma_64_mn, run_wgmma_128_mn,
    run_wgmma_256_mn, run_wgmma_192_mixed, run_wgmma_written, run_wgmma_groups, run_wgmma_plain,
    run_wgmma_plain_mn;

}  // namespace moat::tests
