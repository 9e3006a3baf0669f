#pragma once

// Which output pixels of a pool see which input pixels, for both targets.

#include <algorithm>

#include "kernels/vision/pool2d.h"

namespace moat::kernels {

constexpr bool is_valid_pool(const PoolGeometry& g) {
  return g.n >= 0 && g.height > 0 && g.width > 0 && g.channels > 0 && g.stride > 0 &&
         g.padding >= 0 && 2 * g.padding <= std::min(g.window_height, g.window_width) &&
         g.window_height > 0 && g.window_width > 0 && g.height + 2 * g.padding >= g.window_height &&
         g.width + 2 * g.padding >= g.window_width;
}

struct PoolRange {
  int from, to;
};

// Input positions that output position p sees, of `size`.
constexpr PoolRange seen_by(int p, int window, int stride, int padding, int size) {
  const int first = p * stride - padding;
  return {std::max(first, 0), std::min(first + window, size)};
}

// Output positions that see input position i, of `size`.
constexpr PoolRange that_see(int i, int window, int stride, int padding, int size) {
  const int last = (i + padding) / stride, late = i + padding - window;
  return {late < 0 ? 0 : late / stride + 1, std::min(last + 1, size)};
}

}  // namespace moat::kernels
