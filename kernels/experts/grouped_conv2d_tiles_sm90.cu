#include <algorithm>

#include "kernels/experts/grouped_conv2d/epilogue_sm90.cuh"
#include "kernels/experts/grouped_conv2d/sm90.h"
#include "kernels/experts/grouped_conv2d/walk_sm90.cuh"
#include "kernels/experts/grouped_gemm/operands_sm90.h"

namespace moat::kernels::sm90 {

namespace {

template <class T>
__device__ void clear(typename T::Sums& sums) {
#pragma unroll
  for (auto& block : sums)
#pragma unroll
    for (float& v : block) v = 0;
}

// A step of a 128 x 256 tile loads 16 KiB of pixels and 32 KiB of filters, mostly from the L2
// cache, for 1024 clocks of tensor cores. From memory comes every image once, 2 bytes for each
// value, and goes every result, 2 bytes each.
template <class T, FilterUse kUse>
__global__ void __launch_bounds__(kThreads, 1)
    conv_product_kernel(const __grid_constant__ PixelProduct p) {
  constexpr ptx::Major kMajor =
      kUse == FilterUse::forward ? ptx::Major::k : ptx::Major::mn;  // of the filters
  const T t{shared_memory<unsigned char>()};
  if (threadIdx.x == 0) {
    t.begin(T::kWalks ? 1 : kLateArrivals + (kUse == FilterUse::forward ? 1 : 0));
    ptx::fence_mbarrier_init();
  }
  __syncthreads();

  if (group() == 0) {
    ptx::setmaxnreg_dec<T::kLoadRegisters>();
    if constexpr (!T::kWalks)
      load_pixels<T, kUse>(p, t);
    else if (thread_of_group() < kWarp)
      load_walked<T, kUse>(p, t);
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

// What the tile's copies of the filters take.
template <class T, FilterUse kUse>
TiledTensor filter_boxes(const PixelProduct& p) {
  const Conv2dGeometry& g = p.a.geometry;
  if (kUse == FilterUse::forward) {
    TiledTensor t = bf16_matrix(p.a.filters, p.terms, g.c_out, p.terms, kDepth, T::kColumns);
    t.rank = 3;
    t.extents[2] = p.a.experts;
    t.strides[2] = p.a.filter_stride * 2;
    return t;
  }
  const int taps = g.r * g.s;
  TiledTensor t = bf16_matrix(p.a.filters, g.c_in, taps, g.c_in, 64, 1);
  t.rank = 4;
  t.extents[2] = g.c_out, t.extents[3] = p.a.experts;
  t.strides[2] = int64_t{taps} * g.c_in * 2, t.strides[3] = p.a.filter_stride * 2;
  t.box[2] = kDepth;
  return t;
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
  Status status =
      make_tensor_map(&p.to.map, bf16_matrix(a.to, width, int64_t{a.n} * a.to_shape.pixels(), width,
                                             kPanelColumns, kPanelRows));
  if ((T::kWalks || kUse == FilterUse::forward) && status == Status::ok)
    status = make_tensor_map(&p.filters, filter_boxes<T, kUse>(p));
  if (T::kWalks && p.terms > 0 && most > 0 && status == Status::ok)
    status = make_tensor_map(&p.images, walked_images(a, p.pixels, T::kRows));
  if (status != Status::ok) return status;
  const auto blocks = static_cast<unsigned>(std::min<int64_t>(most, multiprocessors()));
  return launch(on, {dim3(blocks), dim3(kThreads), T::kSharedBytes}, conv_product_kernel<T, kUse>,
                p);
}

template <class T>
Status run_class(Cuda on, const ConvProduct& a, int number) {
  return a.use == FilterUse::forward ? run_class<T, FilterUse::forward>(on, a, number)
                                     : run_class<T, FilterUse::input_grad>(on, a, number);
}

// A launch per class of pixels: one, or stride^2 for an input gradient.
template <class RunClass>
Status run_classes(const ConvProduct& a, RunClass&& run_class) {
  Status status = Status::ok;
  for (int number = 0; number < pixel_classes(a) && status == Status::ok; ++number)
    status = run_class(number);
  return status;
}

Status run_walked(Cuda on, const ConvProduct& a, int number, const GroupedTileShape& tile) {
  Status status = Status::unsupported;
  const auto try_tile = [&]<class T>() {
    if (tile == T::kShape) status = run_class<T>(on, a, number);
  };
  try_tile.operator()<WalkTile<128, 256, TileSchedule::cooperative>>();
  try_tile.operator()<WalkTile<256, 128, TileSchedule::cooperative>>();
  try_tile.operator()<WalkTile<128, 128, TileSchedule::ping_pong>>();
  return status;
}

GroupedExtents extents(const ConvProduct& a, int number) {
  const PixelClass pixels = pixel_class(a, number);
  return {.rows = int64_t{a.n} * pixels.pixels(),
          .experts = a.experts,
          .n = a.to_shape.channels,
          .k = int64_t{pixels.taps()} * a.from_shape.channels,
          .multiprocessors = multiprocessors()};
}

// The narrowest tile that holds a pixel's channels, as long as there are enough for the chip.
ConvTile gathered_tile(const ConvProduct& a) {
  const int width = a.to_shape.channels;
  const int64_t wide = int64_t{a.n} * a.to_shape.pixels() / 128 * ((width + 255) / 256);
  const ConvTile tile = narrowest(width);
  return tile == ConvTile::wide && wide < multiprocessors() ? ConvTile::middle : tile;
}

}  // namespace

bool fits_tiles(const ConvProduct& a) {
  const Conv2dGeometry& g = a.geometry;
  return g.dtype == Dtype::bf16 && a.n > 0 && a.experts > 0 && g.c_in % 8 == 0 &&
         g.c_out % 8 == 0 && a.filter_stride % 8 == 0 && std::max(g.r, g.s) <= kMostTaps &&
         is_aligned(a.from, 16) && is_aligned(a.filters, 16) && is_aligned(a.to, 16) &&
         is_aligned(a.residual, 16) && is_aligned(a.mask, 16) && is_aligned(a.bias, 8);
}

bool fits_walk(const ConvProduct& a) {
  if (!fits_tiles(a) || a.from_shape.channels % kDepth != 0) return false;
  for (int number = 0; number < pixel_classes(a); ++number) {
    const PixelClass c = pixel_class(a, number);
    if (c.taps() > 0 && c.pixels() > 0 && !is_encodable(walked_images(a, c, kDepth))) return false;
  }
  return true;
}

Status run_gathered(Cuda on, const ConvProduct& a, ConvTile tile) {
  if (!fits_tiles(a)) return Status::unsupported;
  return run_classes(a, [&](int number) {
    switch (tile) {
      case ConvTile::narrow:
        return run_class<PixelTile<64, TileSchedule::ping_pong>>(on, a, number);
      case ConvTile::middle:
        return run_class<PixelTile<128, TileSchedule::ping_pong>>(on, a, number);
      case ConvTile::wide:
        return run_class<PixelTile<256, TileSchedule::cooperative>>(on, a, number);
    }
    return Status::unsupported;
  });
}

Status run_walked(Cuda on, const ConvProduct& a, const GroupedTileShape& tile) {
  if (!fits_walk(a)) return Status::unsupported;
  return run_classes(a, [&](int number) { return run_walked(on, a, number, tile); });
}

Status run_tiles(Cuda on, const ConvProduct& a) {
  if (!fits_walk(a)) return run_gathered(on, a, gathered_tile(a));
  return run_classes(a, [&](int number) {
    return run_walked(on, a, number, cheapest(kWalkedTileShapes, extents(a, number)));
  });
}

}  // namespace moat::kernels::sm90
