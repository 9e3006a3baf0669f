#include <algorithm>

#include "kernels/experts/grouped_conv2d/product_sm80.cuh"
#include "kernels/experts/grouped_conv2d/sm80.h"
#include "kernels/experts/grouped_conv2d/weight_grad_sm80.cuh"
#include "kernels/experts/grouped_gemm/host_sm80.cuh"

namespace moat::kernels::sm80 {

namespace {

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

template <class T, Precision kPrecision, FilterUse kUse>
Status run_use(Cuda on, const ConvProduct& a, Extent extent) {
  return with_tiles(access(a), extent, [&]<int kExtent, Access kAccess>() {
    const int64_t tiles = most_tiles(a, kExtent);
    if (tiles > kMostScheduledTiles) return Status::unsupported;
    return launch(on, tile_grid<kExtent>(tiles),
                  grouped_conv2d_kernel<T, kPrecision, kUse, kExtent, kAccess>, a);
  });
}

Status run_f64(Cuda on, const ConvProduct& a) {
  const int64_t tiles = most_tiles(a, kSide64);
  if (tiles > kMostScheduledTiles) return Status::unsupported;
  return launch(on, tile_grid_f64(tiles), grouped_conv2d_f64_kernel, a);
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
                 ceil_div(rows, 128) * ceil_div(a.to_shape.channels, 128) >= multiprocessors()
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
      std::max<int64_t>(1, a.experts * ceil_div(g.c_out, side) * ceil_div(columns, side));
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
  return with_format(a.geometry.dtype, a.precision, [&]<class T, Precision kPrecision>() {
    return a.use == FilterUse::forward
               ? run_use<T, kPrecision, FilterUse::forward>(on, a, extent)
               : run_use<T, kPrecision, FilterUse::input_grad>(on, a, extent);
  });
}

Status run(Cuda on, const GroupedConv2dWeightGrad& a, Extent extent, Precision precision,
           int splits) {
  const Conv2dGeometry& g = a.geometry;
  if (g.dtype == Dtype::f64)
    return launch(on, value_grid_f64(a.experts * g.filter_size()), conv2d_weight_grad_f64_kernel,
                  a);
  const ConvSplit split{splits, static_cast<float*>(on.workspace)};
  return with_format(g.dtype, precision, [&]<class T, Precision kPrecision>() {
    const Status status = with_tiles<kWeightGradHasLarge<T, kPrecision>>(
        access(a), extent, [&]<int kExtent, Access kAccess>() {
          const int64_t tiles = a.experts * ceil_div(g.c_out, kExtent) *
                                ceil_div(int64_t{g.r} * g.s * g.c_in, kExtent) * splits;
          return launch(on, tile_grid<kExtent>(tiles),
                        conv2d_weight_grad_kernel<T, kPrecision, kExtent, kAccess>, a, split);
        });
    if (status != Status::ok || splits == 1) return status;
    return add_pieces(on, add_conv_pieces_kernel, a, split, g.filter_size(), 1024, kDepth<T>);
  });
}

}  // namespace moat::kernels::sm80
