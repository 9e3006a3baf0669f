#pragma once

// The host's half that products and convolutions by mma.sync share: how operands are read, how many
// blocks run, and which instance of a kernel.

#include <algorithm>

#include "kernels/ceil_div.h"
#include "kernels/experts/grouped_gemm/mainloop_sm80.cuh"
#include "kernels/experts/grouped_gemm/sm80.h"
#include "kernels/experts/grouped_gemm/tile_scheduler.cuh"

namespace moat::kernels::sm80 {

// Whether rows of `width` values from `base` on take copies of 16 bytes.
inline bool takes_chunks(const void* base, int width, Dtype dtype) {
  return reinterpret_cast<uintptr_t>(base) % 16 == 0 &&
         width % static_cast<int>(16 / size_of(dtype)) == 0;
}

// As many blocks as there is work for, or as run together.
inline dim3 persistent(int64_t wanted, int together) {
  return dim3(
      static_cast<unsigned>(std::min(wanted, int64_t{multiprocessors()} * int64_t{together})));
}

// Shared memory decides how many run together.
template <int kExtent>
Grid tile_grid(int64_t tiles) {
  return {persistent(tiles, kExtent == 128 ? 2 : 4), dim3(kThreads), ring_bytes<kExtent>()};
}
// In float64: a value per thread, of tiles or of weight gradients.
inline Grid tile_grid_f64(int64_t tiles) { return {persistent(tiles, 8), dim3(kSide64 * kSide64)}; }
inline Grid value_grid_f64(int64_t values) {
  return {persistent(ceil_div(values, kAddThreads), 8), dim3(kAddThreads)};
}

// Calls run.operator()<T, kPrecision>(). Not float64.
template <class Run>
Status with_format(Dtype dtype, Precision precision, Run&& run) {
  if (dtype == Dtype::bf16) return run.template operator()<Bf16, Precision::float32>();
  return precision == Precision::tf32 ? run.template operator()<float, Precision::tf32>()
                                      : run.template operator()<float, Precision::float32>();
}

// Calls run.operator()<kExtent, kAccess>(). Without kHasLarge all tiles are small.
template <bool kHasLarge = true, class Run>
Status with_tiles(Access access, Extent extent, Run&& run) {
  if (access == Access::values) return run.template operator()<64, Access::values>();
  if constexpr (kHasLarge)
    if (extent == Extent::large) return run.template operator()<128, Access::chunks>();
  return run.template operator()<64, Access::chunks>();
}

// Large tiles of a weight gradient in float32 would take too many registers.
template <class T, Precision kPrecision>
inline constexpr bool kWeightGradHasLarge = sizeof(T) == 2 || kPrecision == Precision::tf32;

// Adds up the pieces of the experts' weight gradients, `size` values each, `share` of them or more
// to a block of `kernel`.
template <class Kernel, class WeightGrad, class Split>
Status add_pieces(Cuda on, Kernel* kernel, const WeightGrad& a, const Split& split, int64_t size,
                  int64_t share, int depth) {
  constexpr int64_t kMostBlocks = 0x7fffffff;
  const int per_expert = static_cast<int>(std::min<int64_t>(1024, ceil_div(size, share)));
  const int64_t blocks = int64_t{a.experts} * per_expert;
  if (blocks > kMostBlocks) return Status::unsupported;
  return launch(on, {dim3(static_cast<unsigned>(blocks)), dim3(kAddThreads)}, kernel, a, split,
                per_expert, depth);
}

}  // namespace moat::kernels::sm80
