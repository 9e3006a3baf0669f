#include "kernels/experts/grouped_gemm/sm80.h"

#include <algorithm>

#include "kernels/experts/grouped_gemm/forward_sm80.cuh"
#include "kernels/experts/grouped_gemm/host_sm80.cuh"
#include "kernels/experts/grouped_gemm/weight_grad_sm80.cuh"

namespace moat::kernels::sm80 {

namespace {

Access access(const GroupedGemm& a) {
  const int w_width = a.transpose_w == Transpose::yes ? a.k : a.n;
  const bool halves = a.activation == ExpertActivation::swiglu && a.transpose_w == Transpose::no;
  return takes_chunks(a.x, a.k, a.dtype) && takes_chunks(a.w, w_width, a.dtype) &&
                 (!halves || a.n % 16 == 0)
             ? Access::chunks
             : Access::values;
}

Access access(const GroupedGemmWeightGrad& a) {
  return takes_chunks(a.x, a.k, a.dtype) && takes_chunks(a.d_y, a.n, a.dtype) ? Access::chunks
                                                                              : Access::values;
}

template <class T, Precision kPrecision, Transpose kTransposeW>
Status run_layout(Cuda on, const GroupedGemm& a, Extent extent) {
  return with_tiles(access(a), extent, [&]<int kExtent, Access kAccess>() {
    const int64_t tiles = most_grouped_tiles(a.rows, a.experts, a.n, kExtent, kExtent);
    if (tiles > kMostScheduledTiles) return Status::unsupported;
    return launch(on, tile_grid<kExtent>(tiles),
                  grouped_gemm_kernel<T, kPrecision, kTransposeW, kExtent, kAccess>, a);
  });
}

Status run_f64(Cuda on, const GroupedGemm& a) {
  const int64_t tiles = most_grouped_tiles(a.rows, a.experts, a.n, kSide64, kSide64);
  if (tiles > kMostScheduledTiles) return Status::unsupported;
  return launch(on, tile_grid_f64(tiles), grouped_gemm_f64_kernel, a);
}

}  // namespace

bool can_run(const GroupedGemm& a, Extent extent) {
  return extent == Extent::small || (a.dtype != Dtype::f64 && access(a) == Access::chunks);
}

bool can_run(const GroupedGemmWeightGrad& a, Extent extent) {
  return extent == Extent::small || (access(a) == Access::chunks &&
                                     (a.dtype == Dtype::bf16 || a.precision == Precision::tf32));
}

// Large where the experts' rows fill tiles and there are enough of them for the chip.
Extent extent(const GroupedGemm& a) {
  return can_run(a, Extent::large) && a.rows / std::max(1, a.experts) >= 128 &&
                 ceil_div(a.rows, 128) * ceil_div(a.n, 128) >= multiprocessors()
             ? Extent::large
             : Extent::small;
}

Extent extent(const GroupedGemmWeightGrad& a) {
  return can_run(a, Extent::large) && a.n > 64 && a.k > 64 ? Extent::large : Extent::small;
}

int splits(const GroupedGemmWeightGrad& a, Extent extent) {
  if (a.dtype == Dtype::f64) return 1;
  constexpr int kMost = 16, kRowsWorthIt = 256;
  const int side = static_cast<int>(extent);
  const int64_t tiles =
      std::max<int64_t>(1, int64_t{a.experts} * ceil_div(a.n, side) * ceil_div(a.k, side));
  const int64_t wanted = 2 * int64_t{multiprocessors()} / tiles,
                worth = a.rows / std::max(1, a.experts) / kRowsWorthIt;
  return static_cast<int>(std::clamp<int64_t>(std::min(wanted, worth), 1, kMost));
}

size_t workspace(const GroupedGemmWeightGrad& a, int splits) {
  return static_cast<size_t>(splits - 1) * static_cast<size_t>(a.experts) *
         static_cast<size_t>(a.n) * static_cast<size_t>(a.k) * sizeof(float);
}

Status run(Cuda on, const GroupedGemm& a, Extent extent) {
  if (a.dtype == Dtype::f64) return run_f64(on, a);
  return with_format(a.dtype, a.precision, [&]<class T, Precision kPrecision>() {
    return a.transpose_w == Transpose::yes
               ? run_layout<T, kPrecision, Transpose::yes>(on, a, extent)
               : run_layout<T, kPrecision, Transpose::no>(on, a, extent);
  });
}

Status run(Cuda on, const GroupedGemmWeightGrad& a, Extent extent, int splits) {
  if (a.dtype == Dtype::f64)
    return launch(on, value_grid_f64(int64_t{a.experts} * a.n * a.k), weight_grad_f64_kernel, a);
  const WeightGradSplit split{splits, static_cast<float*>(on.workspace)};
  return with_format(a.dtype, a.precision, [&]<class T, Precision kPrecision>() {
    const Status status = with_tiles<kWeightGradHasLarge<T, kPrecision>>(
        access(a), extent, [&]<int kExtent, Access kAccess>() {
          const int64_t tiles =
              int64_t{a.experts} * ceil_div(a.n, kExtent) * ceil_div(a.k, kExtent) * splits;
          return launch(on, tile_grid<kExtent>(tiles),
                        weight_grad_kernel<T, kPrecision, kExtent, kAccess>, a, split);
        });
    if (status != Status::ok || splits == 1) return status;
    return add_pieces(on, add_pieces_kernel, a, split, int64_t{a.n} * a.k, 2048, kDepth<T>);
  });
}

Status run_bias(Cuda on, const GroupedGemmWeightGrad& a) {
  const int64_t blocks = a.experts * ceil_div(a.n, kWarp);
  if (blocks > 0x7fffffff) return Status::unsupported;
  return with_float(a.dtype, [&]<class T>() {
    return launch(on, {dim3(static_cast<unsigned>(blocks)), dim3(kBiasRows * kWarp)},
                  bias_grad_kernel<T>, a);
  });
}

}  // namespace moat::kernels::sm80
