#include "kernels/experts/grouped_gemm/sm80.h"

#include <algorithm>

#include "kernels/experts/grouped_gemm/forward_sm80.cuh"
#include "kernels/experts/grouped_gemm/weight_grad_sm80.cuh"

namespace moat::kernels::sm80 {

namespace {

// Whether rows of `width` values from `base` on take copies of 16 bytes.
bool takes_chunks(const void* base, int width, Dtype dtype) {
  return reinterpret_cast<uintptr_t>(base) % 16 == 0 &&
         width % static_cast<int>(16 / size_of(dtype)) == 0;
}

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

constexpr int64_t pieces(int64_t count, int64_t size) { return (count + size - 1) / size; }

constexpr int64_t kMostBlocks = 0x7fffffff;

// Persistent blocks, as many as run together where shared memory decides.
template <int kExtent>
Grid tile_grid(int64_t tiles) {
  constexpr int kTogether = kExtent == 128 ? 2 : 4;
  return {
      dim3(static_cast<unsigned>(std::min<int64_t>(tiles, int64_t{multiprocessors()} * kTogether))),
      dim3(kThreads), ring_bytes<kExtent>()};
}

// Blocks of kAddThreads threads that share `values` values.
Grid value_grid(int64_t values) {
  constexpr int kTogether = 8;
  return {dim3(static_cast<unsigned>(std::min<int64_t>(pieces(values, kAddThreads),
                                                       int64_t{multiprocessors()} * kTogether))),
          dim3(kAddThreads)};
}

template <class T, Precision kPrecision, Transpose kTransposeW, int kExtent, Access kAccess>
Status run_tiles(Cuda on, const GroupedGemm& a) {
  const int64_t tiles = most_grouped_tiles(a.rows, a.experts, a.n, kExtent, kExtent);
  if (tiles > kMostScheduledTiles) return Status::unsupported;
  return launch(on, tile_grid<kExtent>(tiles),
                grouped_gemm_kernel<T, kPrecision, kTransposeW, kExtent, kAccess>, a);
}

template <class T, Precision kPrecision, Transpose kTransposeW>
Status run_access(Cuda on, const GroupedGemm& a, Extent extent) {
  if (access(a) == Access::values)
    return run_tiles<T, kPrecision, kTransposeW, 64, Access::values>(on, a);
  if (extent == Extent::large)
    return run_tiles<T, kPrecision, kTransposeW, 128, Access::chunks>(on, a);
  return run_tiles<T, kPrecision, kTransposeW, 64, Access::chunks>(on, a);
}

template <class T, Precision kPrecision>
Status run_layout(Cuda on, const GroupedGemm& a, Extent extent) {
  return a.transpose_w == Transpose::yes ? run_access<T, kPrecision, Transpose::yes>(on, a, extent)
                                         : run_access<T, kPrecision, Transpose::no>(on, a, extent);
}

Status run_f64(Cuda on, const GroupedGemm& a) {
  const int64_t tiles = most_grouped_tiles(a.rows, a.experts, a.n, kSide64, kSide64);
  if (tiles > kMostScheduledTiles) return Status::unsupported;
  return launch(on,
                {dim3(static_cast<unsigned>(std::min<int64_t>(tiles, 8 * multiprocessors()))),
                 dim3(kSide64 * kSide64)},
                grouped_gemm_f64_kernel, a);
}

template <class T, Precision kPrecision, int kExtent, Access kAccess>
Status run_tiles(Cuda on, const GroupedGemmWeightGrad& a, const WeightGradSplit& split) {
  const int64_t tiles =
      int64_t{a.experts} * pieces(a.n, kExtent) * pieces(a.k, kExtent) * split.splits;
  return launch(on, tile_grid<kExtent>(tiles), weight_grad_kernel<T, kPrecision, kExtent, kAccess>,
                a, split);
}

template <class T, Precision kPrecision>
Status run_access(Cuda on, const GroupedGemmWeightGrad& a, Extent extent,
                  const WeightGradSplit& split) {
  if (access(a) == Access::values)
    return run_tiles<T, kPrecision, 64, Access::values>(on, a, split);
  if constexpr (sizeof(T) == 2 || kPrecision == Precision::tf32)  // else too many registers
    if (extent == Extent::large) return run_tiles<T, kPrecision, 128, Access::chunks>(on, a, split);
  return run_tiles<T, kPrecision, 64, Access::chunks>(on, a, split);
}

template <class T>
Status add_pieces(Cuda on, const GroupedGemmWeightGrad& a, const WeightGradSplit& split) {
  const int64_t matrix = int64_t{a.n} * a.k;
  const int per_expert = static_cast<int>(std::min<int64_t>(1024, pieces(matrix, 2048)));
  const int64_t blocks = int64_t{a.experts} * per_expert;
  if (blocks > kMostBlocks) return Status::unsupported;
  return launch(on, {dim3(static_cast<unsigned>(blocks)), dim3(kAddThreads)}, add_pieces_kernel, a,
                split, per_expert, kDepth<T>);
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
                 pieces(a.rows, 128) * pieces(a.n, 128) >= multiprocessors()
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
      std::max<int64_t>(1, int64_t{a.experts} * pieces(a.n, side) * pieces(a.k, side));
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
  if (a.dtype == Dtype::bf16) return run_layout<Bf16, Precision::float32>(on, a, extent);
  return a.precision == Precision::tf32 ? run_layout<float, Precision::tf32>(on, a, extent)
                                        : run_layout<float, Precision::float32>(on, a, extent);
}

Status run(Cuda on, const GroupedGemmWeightGrad& a, Extent extent, int splits) {
  if (a.dtype == Dtype::f64)
    return launch(on, value_grid(int64_t{a.experts} * a.n * a.k), weight_grad_f64_kernel, a);
  const WeightGradSplit split{splits, static_cast<float*>(on.workspace)};
  const auto sum = [&]<class T, Precision kPrecision>() {
    const Status status = run_access<T, kPrecision>(on, a, extent, split);
    return status != Status::ok || splits == 1 ? status : add_pieces<T>(on, a, split);
  };
  if (a.dtype == Dtype::bf16) return sum.template operator()<Bf16, Precision::float32>();
  return a.precision == Precision::tf32 ? sum.template operator()<float, Precision::tf32>()
                                        : sum.template operator()<float, Precision::float32>();
}

Status run_bias(Cuda on, const GroupedGemmWeightGrad& a) {
  const int64_t blocks = a.experts * pieces(a.n, kWarp);
  if (blocks > kMostBlocks) return Status::unsupported;
  return with_float(a.dtype, [&]<class T>() {
    return launch(on, {dim3(static_cast<unsigned>(blocks)), dim3(kBiasRows * kWarp)},
                  bias_grad_kernel<T>, a);
  });
}

}  // namespace moat::kernels::sm80
