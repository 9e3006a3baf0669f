#include <algorithm>

#include "kernels/experts/grouped_conv2d/product_sm80.cuh"
#include "kernels/experts/grouped_conv2d/sm80.h"
#include "kernels/experts/grouped_conv2d/weight_grad_sm80.cuh"

namespace moat::kernels::sm80 {

namespace {

constexpr int64_t pieces(int64_t count, int64_t size) { return (count + size - 1) / size; }

// Whether `channels` values side by side from `base` on take copies of 16 bytes.
bool takes_chunks(const void* base, int channels, Dtype dtype) {
  return reinterpret_cast<uintptr_t>(base) % 16 == 0 &&
         channels % static_cast<int>(16 / size_of(dtype)) == 0;
}

Access access(const ConvProduct& a) {
  const Conv2dGeometry& g = a.geometry;
  return takes_chunks(a.from, a.from_shape.channels, g.dtype) &&
                 takes_chunks(a.filters, g.c_in, g.dtype)
             ? Access::chunks
             : Access::values;
}

Access access(const GroupedConv2dWeightGrad& a) {
  const Conv2dGeometry& g = a.geometry;
  return takes_chunks(a.x, g.c_in, g.dtype) && takes_chunks(a.d_y, g.c_out, g.dtype)
             ? Access::chunks
             : Access::values;
}

// Of all classes; a class may have one more image's worth of ragged tiles per expert.
int64_t most_tiles(const ConvProduct& a, int side) {
  int64_t tiles = 0;
  for (int number = 0; number < pixel_classes(a); ++number)
    tiles += most_grouped_tiles(a.n * pixel_class(a, number).pixels(), a.experts,
                                a.to_shape.channels, side, side);
  return tiles;
}

// Persistent blocks, as many as run together where shared memory decides.
template <int kExtent>
Grid tile_grid(int64_t tiles) {
  constexpr int kTogether = kExtent == 128 ? 2 : 4;
  return {
      dim3(static_cast<unsigned>(std::min<int64_t>(tiles, int64_t{multiprocessors()} * kTogether))),
      dim3(kThreads), ring_bytes<kExtent>()};
}

template <class T, Precision kPrecision, FilterUse kUse, int kExtent, Access kAccess>
Status run_tiles(Cuda on, const ConvProduct& a) {
  const int64_t tiles = most_tiles(a, kExtent);
  if (tiles > kMostScheduledTiles) return Status::unsupported;
  return launch(on, tile_grid<kExtent>(tiles),
                grouped_conv2d_kernel<T, kPrecision, kUse, kExtent, kAccess>, a);
}

template <class T, Precision kPrecision, FilterUse kUse>
Status run_access(Cuda on, const ConvProduct& a, Extent extent) {
  if (access(a) == Access::values) return run_tiles<T, kPrecision, kUse, 64, Access::values>(on, a);
  if (extent == Extent::large) return run_tiles<T, kPrecision, kUse, 128, Access::chunks>(on, a);
  return run_tiles<T, kPrecision, kUse, 64, Access::chunks>(on, a);
}

template <class T, Precision kPrecision>
Status run_use(Cuda on, const ConvProduct& a, Extent extent) {
  return a.use == FilterUse::forward
             ? run_access<T, kPrecision, FilterUse::forward>(on, a, extent)
             : run_access<T, kPrecision, FilterUse::input_grad>(on, a, extent);
}

Status run_f64(Cuda on, const ConvProduct& a) {
  const int64_t tiles = most_tiles(a, kSide64);
  if (tiles > kMostScheduledTiles) return Status::unsupported;
  return launch(on,
                {dim3(static_cast<unsigned>(std::min<int64_t>(tiles, 8 * multiprocessors()))),
                 dim3(kSide64 * kSide64)},
                grouped_conv2d_f64_kernel, a);
}

template <class T, Precision kPrecision, int kExtent, Access kAccess>
Status run_tiles(Cuda on, const GroupedConv2dWeightGrad& a, const ConvSplit& split) {
  const Conv2dGeometry& g = a.geometry;
  const int64_t tiles = a.experts * pieces(g.c_out, kExtent) *
                        pieces(int64_t{g.r} * g.s * g.c_in, kExtent) * split.splits;
  return launch(on, tile_grid<kExtent>(tiles),
                conv2d_weight_grad_kernel<T, kPrecision, kExtent, kAccess>, a, split);
}

template <class T, Precision kPrecision>
Status run_access(Cuda on, const GroupedConv2dWeightGrad& a, Extent extent,
                  const ConvSplit& split) {
  if (access(a) == Access::values)
    return run_tiles<T, kPrecision, 64, Access::values>(on, a, split);
  if constexpr (sizeof(T) == 2 || kPrecision == Precision::tf32)  // else too many registers
    if (extent == Extent::large) return run_tiles<T, kPrecision, 128, Access::chunks>(on, a, split);
  return run_tiles<T, kPrecision, 64, Access::chunks>(on, a, split);
}

template <class T>
Status add_pieces(Cuda on, const GroupedConv2dWeightGrad& a, const ConvSplit& split) {
  constexpr int64_t kMostBlocks = 0x7fffffff;
  const int per_expert =
      static_cast<int>(std::min<int64_t>(1024, pieces(a.geometry.filter_size(), 1024)));
  const int64_t blocks = int64_t{a.experts} * per_expert;
  if (blocks > kMostBlocks) return Status::unsupported;
  return launch(on, {dim3(static_cast<unsigned>(blocks)), dim3(kAddThreads)},
                add_conv_pieces_kernel, a, split, per_expert, kDepth<T>);
}

Status run_f64(Cuda on, const GroupedConv2dWeightGrad& a) {
  const int64_t values = a.experts * a.geometry.filter_size();
  return launch(on,
                {dim3(static_cast<unsigned>(std::min<int64_t>(pieces(values, kAddThreads),
                                                              int64_t{multiprocessors()} * 8))),
                 dim3(kAddThreads)},
                conv2d_weight_grad_f64_kernel, a);
}

}  // namespace

bool can_run(const ConvProduct& a, Extent extent) {
  return extent == Extent::small || (a.geometry.dtype != Dtype::f64 && access(a) == Access::chunks);
}

bool can_run(const GroupedConv2dWeightGrad& a, Extent extent, Precision precision) {
  return extent == Extent::small ||
         (access(a) == Access::chunks &&
          (a.geometry.dtype == Dtype::bf16 ||
           (a.geometry.dtype == Dtype::f32 && precision == Precision::tf32)));
}

// Large where channels fill tiles and there are enough of them for the chip.
Extent extent(const ConvProduct& a) {
  const int64_t rows = int64_t{a.n} * a.to_shape.pixels();
  return can_run(a, Extent::large) && a.to_shape.channels > 64 &&
                 rows / std::max(1, a.experts) >= 128 &&
                 pieces(rows, 128) * pieces(a.to_shape.channels, 128) >= multiprocessors()
             ? Extent::large
             : Extent::small;
}

Extent extent(const GroupedConv2dWeightGrad& a, Precision precision) {
  const Conv2dGeometry& g = a.geometry;
  return can_run(a, Extent::large, precision) && g.c_out > 64 && g.r * g.s * g.c_in > 64
             ? Extent::large
             : Extent::small;
}

int splits(const GroupedConv2dWeightGrad& a) {
  const Conv2dGeometry& g = a.geometry;
  if (g.dtype == Dtype::f64) return 1;
  constexpr int kMost = 64, kPixelsWorthIt = 256;
  const int64_t columns = int64_t{g.r} * g.s * g.c_in;
  const int side = g.c_out > 64 && columns > 64 ? 128 : 64;
  const int64_t tiles =
      std::max<int64_t>(1, a.experts * pieces(g.c_out, side) * pieces(columns, side));
  const int64_t wanted = 2 * int64_t{multiprocessors()} / tiles,
                worth =
                    int64_t{a.n} * y_shape(g).pixels() / std::max(1, a.experts) / kPixelsWorthIt;
  return static_cast<int>(std::clamp<int64_t>(std::min(wanted, worth), 1, kMost));
}

size_t workspace(const GroupedConv2dWeightGrad& a, int splits) {
  return static_cast<size_t>(splits - 1) * static_cast<size_t>(a.experts) *
         static_cast<size_t>(a.geometry.filter_size()) * sizeof(float);
}

Status run(Cuda on, const ConvProduct& a, Extent extent) {
  if (a.geometry.dtype == Dtype::f64) return run_f64(on, a);
  if (a.geometry.dtype == Dtype::bf16) return run_use<Bf16, Precision::float32>(on, a, extent);
  return a.precision == Precision::tf32 ? run_use<float, Precision::tf32>(on, a, extent)
                                        : run_use<float, Precision::float32>(on, a, extent);
}

Status run(Cuda on, const GroupedConv2dWeightGrad& a, Extent extent, Precision precision,
           int splits) {
  if (a.geometry.dtype == Dtype::f64) return run_f64(on, a);
  const ConvSplit split{splits, static_cast<float*>(on.workspace)};
  const auto sum = [&]<class T, Precision kPrecision>() {
    const Status status = run_access<T, kPrecision>(on, a, extent, split);
    return status != Status::ok || splits == 1 ? status : add_pieces<T>(on, a, split);
  };
  if (a.geometry.dtype == Dtype::bf16) return sum.template operator()<Bf16, Precision::float32>();
  return precision == Precision::tf32 ? sum.template operator()<float, Precision::tf32>()
                                      : sum.template operator()<float, Precision::float32>();
}

}  // namespace moat::kernels::sm80
