#include <algorithm>

#include "kernels/experts/grouped_conv2d/sm90.h"
#include "kernels/experts/grouped_conv2d/weight_grad_sm90.cuh"
#include "kernels/experts/grouped_conv2d/window_sm90.cuh"
#include "kernels/experts/grouped_gemm/operands_sm90.h"

namespace moat::kernels::sm90 {

namespace {

template <class T>
Status run_weight_grad(Cuda on, const GroupedConv2dWeightGrad& a, int splits) {
  const ImageShape y = y_shape(a.geometry);
  ConvWeightGrad p{};
  p.a = a;
  p.y = y;
  p.sums = static_cast<float*>(splits == 1 ? a.d_filters : on.workspace);
  p.splits = splits;
  p.terms = a.geometry.r * a.geometry.s * a.geometry.c_in;
  Status status = make_tensor_map(
      &p.d_y, bf16_matrix(a.d_y, y.channels, int64_t{a.n} * y.pixels(), y.channels, 64, kDepth));
  if (status != Status::ok) return status;
  const auto blocks =
      static_cast<unsigned>(std::min<int64_t>(patch_works<T>(a, splits), multiprocessors()));
  status =
      launch(on, {dim3(blocks), dim3(kThreads), T::kSharedBytes}, conv_weight_grad_kernel<T>, p);
  if (status != Status::ok || splits == 1) return status;
  return add_splits(
      on, {p.sums, static_cast<float*>(a.d_filters), a.experts * a.geometry.filter_size(), splits});
}

template <int kColumns, FilterUse kUse, bool kWhole>
Status launch_window(Cuda on, const WindowProduct& p) {
  const int64_t most =
      int64_t{p.a.n} * p.window.image / Window::kRows + std::min(p.a.n, p.a.experts + 1);
  const auto blocks = static_cast<unsigned>(std::min<int64_t>(most, multiprocessors()));
  return launch(on,
                {dim3(blocks), dim3(static_cast<unsigned>(p.window.groups * kGroup)),
                 static_cast<size_t>(window_bytes(p.window))},
                conv_window_kernel<kColumns, kUse, kWhole>, p);
}
template <int kColumns, FilterUse kUse>
Status launch_window(Cuda on, const WindowProduct& p) {
  return p.a.geometry.c_in % 8 == 0 && p.a.geometry.c_out % 8 == 0
             ? launch_window<kColumns, kUse, true>(on, p)
             : launch_window<kColumns, kUse, false>(on, p);
}
template <int kColumns>
Status launch_window(Cuda on, const WindowProduct& p) {
  return p.a.use == FilterUse::forward ? launch_window<kColumns, FilterUse::forward>(on, p)
                                       : launch_window<kColumns, FilterUse::input_grad>(on, p);
}

}  // namespace

bool fits_window(const ConvProduct& a) {
  const Conv2dGeometry& g = a.geometry;
  constexpr int kMostChannels = 64, kMostWidth = 8192, kMostPositions = INT32_MAX / 2;
  const auto fits = [](const void* images, const ImageShape& shape) {
    return is_aligned(images, shape.channels % 8 == 0 ? 16 : 2);
  };
  if (g.dtype != Dtype::bf16 || a.n <= 0 || a.experts <= 0 || g.stride != 1 || g.r != g.s ||
      g.r != 2 * g.padding + 1 || std::max(g.c_in, g.c_out) > kMostChannels || g.r > kMostTaps ||
      g.width > kMostWidth || !fits(a.from, a.from_shape) || !fits(a.to, a.to_shape) ||
      !fits(a.residual, a.to_shape) || !fits(a.mask, a.to_shape))
    return false;
  const Window w = window_of(a);
  return (int64_t{a.n} + 2) * (g.height + g.padding) * (g.width + g.padding) < kMostPositions &&
         window_bytes(w) <= kMostShared;
}

Status run_window(Cuda on, const ConvProduct& a) {
  const WindowProduct p{a, window_of(a)};
  switch (p.window.columns) {
    case 16:
      return launch_window<16>(on, p);
    case 32:
      return launch_window<32>(on, p);
    default:
      return launch_window<64>(on, p);
  }
}

bool can_run(const ConvProduct& a) { return fits_window(a) || fits_tiles(a); }

Status run(Cuda on, const ConvProduct& a) {
  return fits_window(a) ? run_window(on, a) : run_tiles(on, a);
}

bool can_run(const GroupedConv2dWeightGrad& a) {
  const Conv2dGeometry& g = a.geometry;
  return g.dtype == Dtype::bf16 && a.n > 0 && a.experts > 0 && g.c_in % 8 == 0 &&
         g.c_out % 8 == 0 && is_aligned(a.x, 16) && is_aligned(a.d_y, 16) &&
         is_aligned(a.d_filters, 16);
}

int splits(const GroupedConv2dWeightGrad& a) {
  constexpr int kMost = 64, kPixelsWorthIt = 8 * kDepth;
  const Conv2dGeometry& g = a.geometry;
  const int64_t side = static_cast<int64_t>(narrowest(g.c_out)),
                terms = int64_t{g.r} * g.s * g.c_in,
                tiles = a.experts * ((terms + 127) / 128) * ((g.c_out + side - 1) / side),
                wanted = 2 * int64_t{multiprocessors()} / std::max<int64_t>(1, tiles),
                worth =
                    int64_t{a.n} * y_shape(g).pixels() / std::max(1, a.experts) / kPixelsWorthIt;
  return static_cast<int>(std::clamp<int64_t>(std::min(wanted, worth), 1, kMost));
}

size_t workspace(const GroupedConv2dWeightGrad& a, int splits) {
  if (splits == 1) return 0;
  return sizeof(float) * static_cast<size_t>(splits) * static_cast<size_t>(a.experts) *
         static_cast<size_t>(a.geometry.filter_size());
}

Status run(Cuda on, const GroupedConv2dWeightGrad& a, ConvTile tile, int splits) {
  if (!can_run(a)) return Status::unsupported;
  if (on.workspace_bytes < workspace(a, splits)) return Status::small_workspace;
  switch (tile) {
    case ConvTile::narrow:
      return run_weight_grad<PatchTile<64>>(on, a, splits);
    case ConvTile::middle:
      return run_weight_grad<PatchTile<128>>(on, a, splits);
    case ConvTile::wide:
      return run_weight_grad<PatchTile<256>>(on, a, splits);
  }
  return Status::unsupported;
}
Status run(Cuda on, const GroupedConv2dWeightGrad& a) {
  return run(on, a, narrowest(a.geometry.c_out), splits(a));
}

}  // namespace moat::kernels::sm90
