#include "kernels/vision/pool2d.h"

#include <algorithm>
#include <array>

#include "kernels/parallel.h"
#include "kernels/vision/pool_windows.h"

namespace moat::kernels {

namespace {

// body(image, row) over the rows of n images, `work` values each.
template <class Body>
Status for_each_row(int n, int rows, int64_t work, Body&& body) {
  parallel_for(int64_t{n} * rows, std::max<int64_t>(1, 16384 / work),
               [&](int64_t from, int64_t to) {
                 for (int64_t i = from; i < to; ++i) body(i / rows, static_cast<int>(i % rows));
               });
  return Status::ok;
}

// Channels run in groups of this many, their sums in registers or the first cache.
constexpr int kGroup = 64;

// body(first channel, channels) over groups.
template <class Body>
void for_each_group(int channels, Body&& body) {
  for (int c = 0; c < channels; c += kGroup) body(c, std::min(kGroup, channels - c));
}

template <class T>
struct Images {
  T* data;
  int height, width, channels;
  T* at(int64_t image, int i, int j) const {
    return data + ((image * height + i) * width + j) * channels;
  }
};
template <class T, class P>
Images<T> inputs(P* data, const PoolGeometry& g) {
  return {static_cast<T*>(data), g.height, g.width, g.channels};
}
template <class T, class P>
Images<T> outputs(P* data, const PoolGeometry& g) {
  return {static_cast<T*>(data), g.out_height(), g.out_width(), g.channels};
}

template <class T>
void max_row(const MaxPool2d& a, int64_t image, int p) {
  using C = compute_t<T>;
  const PoolGeometry& g = a.geometry;
  const auto x = inputs<const T>(a.x, g);
  const auto y = outputs<T>(a.y, g);
  const auto winners = outputs<int32_t>(a.winners, g);
  const PoolRange rows = seen_by(p, g.window_height, g.stride, g.padding, g.height);
  std::array<C, kGroup> best;
  std::array<int32_t, kGroup> winner;
  for (int q = 0; q < g.out_width(); ++q) {
    const PoolRange columns = seen_by(q, g.window_width, g.stride, g.padding, g.width);
    for_each_group(g.channels, [&](int first, int channels) {
      for (int c = 0; c < channels; ++c) {
        best[size_t(c)] = x.at(image, rows.from, columns.from)[first + c];
        winner[size_t(c)] = rows.from * g.width + columns.from;
      }
      for (int i = rows.from; i < rows.to; ++i)
        for (int j = columns.from; j < columns.to; ++j) {
          const T* pixel = x.at(image, i, j) + first;
          for (int c = 0; c < channels; ++c) {
            const C value = pixel[c], held = best[size_t(c)];
            const bool wins = value > held || (value != value && held == held);
            best[size_t(c)] = wins ? value : held;
            winner[size_t(c)] = wins ? i * g.width + j : winner[size_t(c)];
          }
        }
      for (int c = 0; c < channels; ++c) y.at(image, p, q)[first + c] = T(best[size_t(c)]);
      if (a.winners) std::copy_n(winner.begin(), channels, winners.at(image, p, q) + first);
    });
  }
}

// One row of an input gradient: term(p, q, j, first channel, channels, sums) adds what window (p,
// q) gives to pixel (i, j). Windows come in row order, and each pixel gathers its own, so that no
// two threads meet.
template <class T, class Term>
void gather_row(void* d_x, const PoolGeometry& g, int64_t image, int i, Term&& term) {
  using C = compute_t<T>;
  const auto target = inputs<T>(d_x, g);
  const PoolRange rows = that_see(i, g.window_height, g.stride, g.padding, g.out_height());
  std::array<C, kGroup> sums;
  for (int j = 0; j < g.width; ++j) {
    const PoolRange columns = that_see(j, g.window_width, g.stride, g.padding, g.out_width());
    for_each_group(g.channels, [&](int first, int channels) {
      std::fill_n(sums.begin(), channels, C{0});
      for (int p = rows.from; p < rows.to; ++p)
        for (int q = columns.from; q < columns.to; ++q) term(p, q, j, first, channels, sums.data());
      for (int c = 0; c < channels; ++c) target.at(image, i, j)[first + c] = T(sums[size_t(c)]);
    });
  }
}

}  // namespace

Status max_pool2d(Cpu, const MaxPool2d& a) {
  const PoolGeometry& g = a.geometry;
  if (!is_valid_pool(g)) return Status::bad_args;
  const int64_t work = int64_t{g.out_width()} * g.channels * g.window_height * g.window_width;
  return with_float(a.dtype, [&]<class T>() {
    return for_each_row(g.n, g.out_height(), work,
                        [&](int64_t image, int p) { max_row<T>(a, image, p); });
  });
}

Status max_pool2d_grad(Cpu, const MaxPool2dGrad& a) {
  const PoolGeometry& g = a.geometry;
  if (!is_valid_pool(g) || (g.n > 0 && !a.winners)) return Status::bad_args;
  return with_float(a.dtype, [&]<class T>() {
    const auto d_y = outputs<const T>(a.d_y, g);
    const auto winners = outputs<const int32_t>(a.winners, g);
    return for_each_row(g.n, g.height, int64_t{g.width} * g.channels, [&](int64_t image, int i) {
      gather_row<T>(a.d_x, g, image, i,
                    [&](int p, int q, int j, int first, int channels, auto* sums) {
                      const T* d = d_y.at(image, p, q) + first;
                      const int32_t* winner = winners.at(image, p, q) + first;
                      for (int c = 0; c < channels; ++c)
                        if (winner[c] == i * g.width + j) sums[c] += d[c];
                    });
    });
  });
}

Status avg_pool2d(Cpu, const AvgPool2d& a) {
  const PoolGeometry& g = a.geometry;
  if (!is_valid_pool(g) || g.padding != 0) return Status::bad_args;
  const int64_t area = int64_t{g.window_height} * g.window_width;
  return with_float(a.dtype, [&]<class T>() {
    using C = compute_t<T>;
    const auto x = inputs<const T>(a.x, g);
    const auto y = outputs<T>(a.y, g);
    const int64_t work = int64_t{g.out_width()} * g.channels * area;
    return for_each_row(g.n, g.out_height(), work, [&](int64_t image, int p) {
      std::array<C, kGroup> sums;
      for (int q = 0; q < g.out_width(); ++q)
        for_each_group(g.channels, [&](int first, int channels) {
          std::fill_n(sums.begin(), channels, C{0});
          for (int u = 0; u < g.window_height; ++u)
            for (int v = 0; v < g.window_width; ++v) {
              const T* pixel = x.at(image, p * g.stride + u, q * g.stride + v) + first;
              for (int c = 0; c < channels; ++c) sums[size_t(c)] += pixel[c];
            }
          for (int c = 0; c < channels; ++c)
            y.at(image, p, q)[first + c] = T(sums[size_t(c)] / static_cast<C>(area));
        });
    });
  });
}

Status avg_pool2d_grad(Cpu, const AvgPool2dGrad& a) {
  const PoolGeometry& g = a.geometry;
  if (!is_valid_pool(g) || g.padding != 0) return Status::bad_args;
  return with_float(a.dtype, [&]<class T>() {
    using C = compute_t<T>;
    const auto d_y = outputs<const T>(a.d_y, g);
    const C area = static_cast<C>(int64_t{g.window_height} * g.window_width);
    return for_each_row(g.n, g.height, int64_t{g.width} * g.channels, [&](int64_t image, int i) {
      gather_row<T>(a.d_x, g, image, i,
                    [&](int p, int q, int, int first, int channels, auto* sums) {
                      const T* d = d_y.at(image, p, q) + first;
                      for (int c = 0; c < channels; ++c) sums[c] += d[c] / area;
                    });
    });
  });
}

}  // namespace moat::kernels
