#include <algorithm>

#include "kernels/experts/grouped_conv2d/epilogue_sm90.cuh"
#include "kernels/experts/grouped_conv2d/load_sm90.cuh"
#include "kernels/experts/grouped_conv2d/sm90.h"
#include "kernels/experts/grouped_conv2d/weight_grad_sm90.cuh"
#include "kernels/experts/grouped_conv2d/window_sm90.cuh"

namespace moat::kernels::sm90 {

namespace {

template <class T>
__device__ void clear(typename T::Sums& sums) {
#pragma unroll
  for (auto& block : sums)
#pragma unroll
    for (float& v : block) v = 0;
}

// A step of a 128 x 64 tile loads 16 KiB of pixels, mostly from the L1 and L2 caches, and 8 KiB of
// filters for 256 clocks of tensor cores. From memory comes every image once, 2 bytes for each
// value, and goes every result, 2 bytes each.
template <class T, FilterUse kUse>
__global__ void __launch_bounds__(kThreads, 1)
    conv_product_kernel(const __grid_constant__ PixelProduct p) {
  constexpr ptx::Major kMajor =
      kUse == FilterUse::forward ? ptx::Major::k : ptx::Major::mn;  // of the filters
  const T t{shared_memory<unsigned char>()};
  if (threadIdx.x == 0) {
    t.begin(kLateArrivals + (kUse == FilterUse::forward ? 1 : 0));
    ptx::fence_mbarrier_init();
  }
  __syncthreads();

  if (group() == 0) {
    ptx::setmaxnreg_dec<T::kLoadRegisters>();
    load_pixels<T, kUse>(p, t);
    return;
  }

  ptx::setmaxnreg_inc<T::kMultiplyRegisters>();
  const int turn = group() - 1, first_row = T::kPingPong ? 0 : turn * T::kGroupRows;
  const unsigned steps = static_cast<unsigned>((p.terms + kDepth - 1) / kDepth);
  PanelWriter panels(t.panels(turn), 1 + turn);
  PixelWriter<T> writer(p, panels);
  for (unsigned number = T::kPingPong ? static_cast<unsigned>(turn) : 0;; number += T::kTurns) {
    const GroupedTile tile = told_tile(t, number);
    if (tile.expert < 0) break;
    const int row = tile.row + first_row, rows = min(tile.rows - first_row, T::kGroupRows);
    if (tile.expert == p.a.experts) {
      writer.write_zeros(tile, row, rows);
      continue;
    }
    typename T::Sums sums;
    if (steps == 0)  // a class of pixels that no tap reaches
      clear<T>(sums);
    else
      multiply_tile<T, kMajor>(sums, t, first_row, number, steps);
    writer.write(sums, tile, row, rows);
  }
  panels.finish();
}

TiledTensor bf16_tensor(const void* base, int64_t columns, int64_t rows, int box_columns,
                        int box_rows) {
  return {.base = base,
          .dtype = Dtype::bf16,
          .rank = 2,
          .extents = {columns, rows, 1},
          .strides = {0, columns * 2, 0},
          .box = {box_columns, box_rows, 1},
          .swizzle = Swizzle::b128,
          .promotion = L2Promotion::b256};
}

template <class T, FilterUse kUse>
Status run_class(Cuda on, const ConvProduct& a, int number) {
  PixelProduct p{};
  p.a = a;
  p.pixels = pixel_class(a, number);
  p.terms = p.pixels.taps() * a.from_shape.channels;
  const int width = a.to_shape.channels;
  const int64_t most =
      most_grouped_tiles(a.n * p.pixels.pixels(), a.experts, width, T::kRows, T::kColumns);
  if (most > kMostScheduledTiles) return Status::unsupported;
  p.to = {.map = {}, .base = static_cast<Bf16*>(a.to), .width = width, .stride = width};
  Status status = make_tensor_map(
      &p.to.map,
      bf16_tensor(a.to, width, int64_t{a.n} * a.to_shape.pixels(), kPanelColumns, kPanelRows));
  if (kUse == FilterUse::forward && status == Status::ok) {
    TiledTensor filters = bf16_tensor(a.filters, p.terms, width, kDepth, T::kColumns);
    filters.rank = 3;
    filters.extents[2] = a.experts;
    filters.strides[2] = a.filter_stride * 2;
    status = make_tensor_map(&p.filters, filters);
  }
  if (status != Status::ok) return status;
  const auto blocks = static_cast<unsigned>(std::min<int64_t>(most, multiprocessors()));
  return launch(on, {dim3(blocks), dim3(kThreads), T::kSharedBytes}, conv_product_kernel<T, kUse>,
                p);
}

// A launch per class of pixels: stride^2 for an input gradient.
template <class T>
Status run_tile(Cuda on, const ConvProduct& a) {
  if (a.use == FilterUse::forward) return run_class<T, FilterUse::forward>(on, a, 0);
  Status status = Status::ok;
  for (int number = 0; number < pixel_classes(a) && status == Status::ok; ++number)
    status = run_class<T, FilterUse::input_grad>(on, a, number);
  return status;
}

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
      &p.d_y, bf16_tensor(a.d_y, y.channels, int64_t{a.n} * y.pixels(), 64, kDepth));
  if (status != Status::ok) return status;
  const auto blocks =
      static_cast<unsigned>(std::min<int64_t>(patch_works<T>(a, splits), multiprocessors()));
  status =
      launch(on, {dim3(blocks), dim3(kThreads), T::kSharedBytes}, conv_weight_grad_kernel<T>, p);
  if (status != Status::ok || splits == 1) return status;
  return add_splits(
      on, {p.sums, static_cast<float*>(a.d_filters), a.experts * a.geometry.filter_size(), splits});
}

ConvTile narrowest(int channels) {
  return channels <= 64 ? ConvTile::narrow : channels <= 128 ? ConvTile::middle : ConvTile::wide;
}

bool is_aligned(const void* p, uintptr_t bytes) {
  return reinterpret_cast<uintptr_t>(p) % bytes == 0;
}

int window_bytes(const Window& w) {
  return w.filter_bytes + window_groups(w.columns) * w.group_bytes;
}

template <int kColumns, FilterUse kUse, bool kWhole>
Status launch_window(Cuda on, const WindowProduct& p) {
  const int64_t most =
      int64_t{p.a.n} * p.window.image / Window::kRows + std::min(p.a.n, p.a.experts + 1);
  const int shared = window_bytes(p.window),
            beside = std::clamp(kMostShared / shared, 1, window_blocks(kColumns));
  const auto blocks =
      static_cast<unsigned>(std::min<int64_t>(most, int64_t{multiprocessors()} * beside));
  return launch(on, {dim3(blocks), dim3(window_threads(kColumns)), static_cast<size_t>(shared)},
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

Status run(Cuda on, const ConvProduct& a, ConvTile tile) {
  if (!fits_tiles(a)) return Status::unsupported;
  switch (tile) {
    case ConvTile::narrow:
      return run_tile<PixelTile<64, TileSchedule::ping_pong>>(on, a);
    case ConvTile::middle:
      return run_tile<PixelTile<128, TileSchedule::ping_pong>>(on, a);
    case ConvTile::wide:
      return run_tile<PixelTile<256, TileSchedule::cooperative>>(on, a);
  }
  return Status::unsupported;
}

bool fits_tiles(const ConvProduct& a) {
  const Conv2dGeometry& g = a.geometry;
  return g.dtype == Dtype::bf16 && a.n > 0 && a.experts > 0 && g.c_in % 8 == 0 &&
         g.c_out % 8 == 0 && a.filter_stride % 8 == 0 && std::max(g.r, g.s) <= kMostTaps &&
         is_aligned(a.from, 16) && is_aligned(a.filters, 16) && is_aligned(a.to, 16) &&
         is_aligned(a.residual, 4) && is_aligned(a.mask, 4) && is_aligned(a.bias, 8);
}

bool fits_window(const ConvProduct& a) {
  const Conv2dGeometry& g = a.geometry;
  constexpr int kMostChannels = 64, kMostWidth = 8192, kMostPositions = INT32_MAX / 2;
  const auto alignment = [](int channels) { return channels % 8 == 0 ? 16 : 2; };
  if (g.dtype != Dtype::bf16 || a.n <= 0 || a.experts <= 0 || g.stride != 1 || g.r != g.s ||
      g.r != 2 * g.padding + 1 || std::max(g.c_in, g.c_out) > kMostChannels || g.r > kMostTaps ||
      g.width > kMostWidth || !is_aligned(a.from, alignment(a.from_shape.channels)) ||
      !is_aligned(a.to, alignment(a.to_shape.channels)) || !is_aligned(a.residual, 4) ||
      !is_aligned(a.mask, 4))
    return false;
  const Window w = window_of(a);
  return (int64_t{a.n} + 2) * (g.height + g.padding) * (g.width + g.padding) < kMostPositions &&
         window_bytes(w) <= kMostShared;
}

bool can_run(const ConvProduct& a) { return fits_window(a) || fits_tiles(a); }

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

// The narrowest tile that holds a pixel's channels, as long as there are enough for the chip.
Status run(Cuda on, const ConvProduct& a) {
  if (fits_window(a)) return run_window(on, a);
  const int width = a.to_shape.channels;
  const int64_t wide = int64_t{a.n} * a.to_shape.pixels() / 128 * ((width + 255) / 256);
  const ConvTile tile = narrowest(width);
  return run(on, a, tile == ConvTile::wide && wide < multiprocessors() ? ConvTile::middle : tile);
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
