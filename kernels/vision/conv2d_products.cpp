#include "kernels/vision/conv2d_products.h"

#include <algorithm>
#include <type_traits>

#include "kernels/library/product.h"
#include "kernels/vision/conv2d_finish.h"
#include "kernels/vision/conv2d_patches.h"

namespace moat::kernels::products {

namespace {

// oneDNN's sgemm treats the last rows of a product in another order unless they fill its kernels.
// With a multiple of kRowUnit rows, of one thread, every row has the same bits in every product.
constexpr int kRowUnit = 6;
constexpr int kTilePixels = 96;
static_assert(kTilePixels % kRowUnit == 0);

// Weight gradients: a task takes kBlock output channels and a share of the tiles. The number of
// shares depends on the geometry and the batch alone, and they are added in order.
constexpr int kGradTilePixels = 384, kBlock = 64, kTasks = 16;

int blocks(const Conv2dGeometry& g) { return (g.c_out + kBlock - 1) / kBlock; }

const Patches& patches_of(Cpu on, const Conv2dGeometry& g, FilterUse use) {
  const PlanKey key{static_cast<int>(PlanKind::patches),
                    g.height,
                    g.width,
                    g.r,
                    g.s,
                    g.stride,
                    g.padding,
                    int(use)};
  return on.context->primitives().plan<Patches>(key,
                                                [&] { return std::make_unique<Patches>(g, use); });
}

// What a thread needs for a tile: the unrolled patches, and a row for every pixel.
struct ThreadScratch {
  size_t patch_floats, row_floats;
  size_t bytes() const { return in_lines((patch_floats + row_floats) * sizeof(float)); }
  size_t all_bytes() const { return static_cast<size_t>(omp_get_max_threads()) * bytes(); }
  float* patches(char* all, int thread) const {
    return reinterpret_cast<float*>(all + static_cast<size_t>(thread) * bytes());
  }
  float* rows(char* all, int thread) const { return patches(all, thread) + patch_floats; }
};
ThreadScratch scratch_of(const Conv2dGeometry& g, int pixels, int operand_channels, int row) {
  return {size_t{1} * pixels * g.r * g.s * operand_channels, size_t{1} * pixels * row};
}

struct Epilogue {
  const float *bias, *residual, *mask;
  bool relu;
};

// f(std::true_type) or f(std::false_type): the loops inside f have no branch.
template <class F>
void with_bool(bool value, F&& f) {
  if (value)
    f(std::true_type{});
  else
    f(std::false_type{});
}

// The rows of a tile become pixels of the result.
void finish(const Patches& patches, const PatchTile& tile, const float* rows, int channels,
            const Epilogue& e, float* result) {
  with_bool(e.bias, [&](auto has_bias) {
    with_bool(e.residual, [&](auto has_residual) {
      with_bool(e.mask, [&](auto has_mask) {
        with_bool(e.relu, [&](auto has_relu) {
          patches.for_each_pixel(tile, [&](int i, int64_t, int64_t pixel) {
            const float* row = rows + int64_t{i} * channels;
            float* y = result + pixel * channels;
#pragma omp simd
            for (int k = 0; k < channels; ++k) {
              float v = row[k];
              if constexpr (has_bias) v += e.bias[k];
              if constexpr (has_residual) v += e.residual[pixel * channels + k];
              if constexpr (has_mask) v = behind_relu(v, e.mask[pixel * channels + k]);
              y[k] = has_relu && !(v > 0) ? 0 : v;
            }
          });
        });
      });
    });
  });
}

// One side of a convolution: results [n, …, out] = patches of operands [n, …, in] · filter. Forward
// the filter is KRSC; in the input gradient its taps are as Patches wants them, [r·s, c_out, c_in].
struct Side {
  const float *operand, *filter;
  float* result;
  int n, in, out;
};

void multiply(Cpu on, const Conv2dGeometry& g, FilterUse use, const Side& s, const Epilogue& e,
              char* scratch) {
  const Patches& patches = patches_of(on, g, use);
  const bool krsc = use == FilterUse::forward;
  const int filter_row = g.r * g.s * g.c_in;
  Products products;
  const ThreadScratch each = scratch_of(g, kTilePixels, s.in, s.out);
  parallel_tasks(patches.tiles(s.n, kTilePixels), [&](int64_t task, int thread) {
    const OneThreadScope one_thread;
    const PatchTile tile = patches.tile(s.n, kTilePixels, task);
    float *unrolled = each.patches(scratch, thread), *y = each.rows(scratch, thread);
    const int width = patches.taps(tile) * s.in,
              rows = (tile.pixels + kRowUnit - 1) / kRowUnit * kRowUnit;
    patches.unroll(tile, s.operand, s.in, unrolled);
    std::fill(unrolled + int64_t{tile.pixels} * width, unrolled + int64_t{rows} * width, 0.0f);
    if (width == 0) std::fill_n(y, int64_t{rows} * s.out, 0.0f);
    patches.for_each_run(tile, [&](int64_t first, int count, int64_t position) {
      const float* taps = s.filter + position * s.in * (krsc ? 1 : s.out);
      const Operand<float> filter{taps, krsc ? filter_row : s.out,
                                  krsc ? Transpose::yes : Transpose::no};
      products(rows, s.out, count * s.in, {unrolled + first * s.in, width}, filter, first > 0, y,
               s.out);
    });
    finish(patches, tile, y, s.out, e, s.result);
  });
  products.check();
}

size_t filter_bytes(const Conv2dGeometry& g) {
  return in_lines(static_cast<size_t>(g.filter_size()) * sizeof(float));
}

// How a weight gradient is cut: tiles [tiles · i / shares, tiles · (i + 1) / shares) are share i.
struct Cut {
  int64_t tiles, shares;
};
Cut cut(const Patches& patches, const Conv2dWeightGrad& a) {
  const int64_t tiles = patches.tiles(a.n, kGradTilePixels);
  return {tiles, std::min<int64_t>(tiles, std::max(1, kTasks / blocks(a.geometry)))};
}

// d_filter = what tiles [from, to) add to `block` output channels from `channel` on.
void sum_tiles(const Patches& patches, const Conv2dWeightGrad& a, int64_t from, int64_t to,
               int channel, int block, float* unrolled, float* d_rows, float* d_filter,
               Products& products) {
  const Conv2dGeometry& g = a.geometry;
  const int filter_row = g.r * g.s * g.c_in;
  const auto *x = static_cast<const float*>(a.x), *d_y = static_cast<const float*>(a.d_y);
  std::fill_n(d_filter, int64_t{block} * filter_row, 0.0f);
  for (int64_t t = from; t < to; ++t) {
    const PatchTile tile = patches.tile(a.n, kGradTilePixels, t);
    const int width = patches.taps(tile) * g.c_in;
    patches.unroll(tile, x, g.c_in, unrolled);
    patches.for_each_pixel(tile, [&](int i, int64_t, int64_t pixel) {
      std::copy_n(d_y + pixel * g.c_out + channel, block, d_rows + int64_t{i} * block);
    });
    patches.for_each_run(tile, [&](int64_t first, int count, int64_t position) {
      products(block, count * g.c_in, tile.pixels, {d_rows, block, Transpose::yes},
               {unrolled + first * g.c_in, width}, true, d_filter + position * g.c_in, filter_row);
    });
  }
}

}  // namespace

size_t workspace(Cpu, const Conv2d& a) {
  return scratch_of(a.geometry, kTilePixels, a.geometry.c_in, a.geometry.c_out).all_bytes();
}

void run(Cpu on, const Conv2d& a) {
  const Conv2dGeometry& g = a.geometry;
  const Side side{static_cast<const float*>(a.x),
                  static_cast<const float*>(a.filter),
                  static_cast<float*>(a.y),
                  a.n,
                  g.c_in,
                  g.c_out};
  multiply(on, g, FilterUse::forward, side,
           {.bias = static_cast<const float*>(a.bias),
            .residual = static_cast<const float*>(a.residual),
            .mask = nullptr,
            .relu = a.activation == ConvActivation::relu},
           WorkspacePieces(on).take(0));
}

size_t workspace(Cpu on, const Conv2dInputGrad& a) {
  const Conv2dGeometry& g = a.geometry;
  return (a.form == FilterForm::packed ? 0 : in_lines(packed_bytes(on, g, FilterUse::input_grad))) +
         scratch_of(g, kTilePixels, g.c_out, g.c_in).all_bytes();
}

void run(Cpu on, const Conv2dInputGrad& a) {
  const Conv2dGeometry& g = a.geometry;
  WorkspacePieces pieces(on);
  const void* filter = a.filter;
  if (a.form == FilterForm::krsc) {
    char* packed = pieces.take(packed_bytes(on, g, FilterUse::input_grad));
    run(on, Conv2dPack{a.filter, packed, g, FilterUse::input_grad});
    filter = packed;
  }
  const Side side{static_cast<const float*>(a.d_y),
                  static_cast<const float*>(filter),
                  static_cast<float*>(a.d_x),
                  a.n,
                  g.c_out,
                  g.c_in};
  multiply(on, g, FilterUse::input_grad, side,
           {.bias = nullptr,
            .residual = static_cast<const float*>(a.added),
            .mask = static_cast<const float*>(a.mask),
            .relu = false},
           pieces.take(0));
}

size_t workspace(Cpu on, const Conv2dWeightGrad& a) {
  const Conv2dGeometry& g = a.geometry;
  const Cut parts = cut(patches_of(on, g, FilterUse::forward), a);
  return static_cast<size_t>(parts.shares) * filter_bytes(g) +
         scratch_of(g, kGradTilePixels, g.c_in, kBlock).all_bytes();
}

void run(Cpu on, const Conv2dWeightGrad& a) {
  const Conv2dGeometry& g = a.geometry;
  const Patches& patches = patches_of(on, g, FilterUse::forward);
  const Cut parts = cut(patches, a);
  WorkspacePieces pieces(on);
  char* sums = pieces.take(static_cast<size_t>(parts.shares) * filter_bytes(g));
  char* scratch = pieces.take(0);
  const auto sum_of = [&](int64_t share) {
    return reinterpret_cast<float*>(sums + static_cast<size_t>(share) * filter_bytes(g));
  };
  const ThreadScratch each = scratch_of(g, kGradTilePixels, g.c_in, kBlock);
  Products products;
  parallel_tasks(parts.shares * blocks(g), [&](int64_t task, int thread) {
    const OneThreadScope one_thread;
    const int64_t share = task / blocks(g);
    const int channel = static_cast<int>(task % blocks(g)) * kBlock;
    sum_tiles(patches, a, parts.tiles * share / parts.shares,
              parts.tiles * (share + 1) / parts.shares, channel,
              std::min(kBlock, g.c_out - channel), each.patches(scratch, thread),
              each.rows(scratch, thread), sum_of(share) + int64_t{channel} * g.r * g.s * g.c_in,
              products);
  });
  products.check();
  auto* d_filter = static_cast<float*>(a.d_filter);
  parallel_for(g.filter_size(), 4096, [&](int64_t from, int64_t to) {
    std::copy(sum_of(0) + from, sum_of(0) + to, d_filter + from);
    for (int64_t share = 1; share < parts.shares; ++share) {
      const float* sum = sum_of(share);
      for (int64_t i = from; i < to; ++i) d_filter[i] += sum[i];
    }
  });
}

size_t workspace(Cpu, const Conv2dPack&) { return 0; }

void run(Cpu on, const Conv2dPack& a) {
  const Conv2dGeometry& g = a.geometry;
  const auto* filter = static_cast<const float*>(a.filter);
  auto* packed = static_cast<float*>(a.packed);
  if (a.use == FilterUse::forward) {
    std::copy_n(filter, g.filter_size(), packed);
    return;
  }
  const Patches& patches = patches_of(on, g, a.use);
  parallel_for(g.c_out, 16, [&](int64_t from, int64_t to) {
    for (int64_t o = from; o < to; ++o)
      for (int u = 0; u < g.r; ++u)
        for (int v = 0; v < g.s; ++v)
          std::copy_n(
              filter + ((o * g.r + u) * g.s + v) * g.c_in, g.c_in,
              packed + (patches.position_of_filter_tap(u, v) * int64_t{g.c_out} + o) * g.c_in);
  });
}

size_t packed_bytes(Cpu, const Conv2dGeometry& g, FilterUse) { return filter_bytes(g); }

}  // namespace moat::kernels::products
