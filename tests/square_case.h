#pragma once

// The queries of the Square attack in plain float64 loops, and images to feed them, for both
// targets' tests.

#include <algorithm>
#include <cmath>

#include "kernels/basic/philox.h"
#include "kernels/update/square_l2.h"
#include "kernels/update/square_linf.h"
#include "tests/random_values.h"

namespace moat::tests {

struct SquareScene {
  int images, height, width, channels, side;
  std::vector<int32_t> rows, ids;
  double eps;
  std::vector<float> center = {}, low = {}, high = {}, best = {}, bump = {};
  kernels::SquareKey key{
      .seed = 0x123456789abcdef0, .iteration = 7, .purpose = 0x82, .stream = 0xfedcba};

  size_t values() const { return size_t(height) * size_t(width) * size_t(channels); }
  size_t points() const { return rows.size() * values(); }
  size_t at(size_t image, int row, int column, int channel) const {
    return image * values() + (size_t(row) * size_t(width) + size_t(column)) * size_t(channels) +
           size_t(channel);
  }
  // Word `element` of what image i of the query draws.
  uint32_t bits(size_t i, uint32_t element) const {
    return kernels::philox(
        {element / 4, uint32_t(ids[i]), key.iteration, key.purpose << 24 | key.stream},
        key.seed)[element % 4];
  }
  int place(size_t i, uint32_t element, int extent) const {
    return int(uint64_t(bits(i, element)) * uint64_t(extent - side + 1) >> 32);
  }
  bool in_window(size_t i, uint32_t element, int row, int column) const {
    const int top = place(i, element, height), left = place(i, element + 1, width);
    return row >= top && row - top < side && column >= left && column - left < side;
  }
  bool is_plus(size_t i, int channel) const { return bits(i, 8 + uint32_t(channel)) >= 1u << 31; }

  // What is still missing are the pointers.
  template <class Args>
  Args args() const {
    Args a{};
    a.n = int(rows.size());
    a.images = images;
    a.height = height;
    a.width = width;
    a.channels = channels;
    a.side = side;
    a.key = key;
    if constexpr (requires { a.eps; }) a.eps = eps;
    return a;
  }
};

// Best points with some perturbation, none of it in the first image.
inline SquareScene square_scene(int images, int height, int width, int channels, int side,
                                std::vector<int32_t> rows, double eps = 0.05) {
  SquareScene s{.images = images,
                .height = height,
                .width = width,
                .channels = channels,
                .side = side,
                .rows = std::move(rows),
                .ids = {},
                .eps = eps};
  s.ids = integers<int32_t>(s.rows.size(), 3, -1000, 1000000);
  const size_t count = size_t(images) * s.values();
  const auto noise = normals(count, 5), pixels = normals(count, 6, 0.2);
  for (size_t i = 0; i < count; ++i) {
    const double x = std::clamp(0.5 + pixels[i], 0.0, 1.0);
    s.center.push_back(float(x));
    s.low.push_back(float(std::max(x - eps, 0.0)));
    s.high.push_back(float(std::min(x + eps, 1.0)));
    const double moved = i < s.values() ? x : x + eps * noise[i] / std::sqrt(double(s.values()));
    s.best.push_back(float(std::clamp(moved, 0.0, 1.0)));
  }
  for (double b : normals(size_t(side) * size_t(side), 7, 1.0 / std::max(side, 1)))
    s.bump.push_back(float(b));
  return s;
}

inline std::vector<float> linf_reference(const SquareScene& s) {
  std::vector<float> y(s.points());
  for (size_t i = 0; i < s.rows.size(); ++i)
    for (int r = 0; r < s.height; ++r)
      for (int c = 0; c < s.width; ++c)
        for (int k = 0; k < s.channels; ++k) {
          const size_t from = s.at(size_t(s.rows[i]), r, c, k);
          y[s.at(i, r, c, k)] = !s.in_window(i, 0, r, c) ? s.best[from]
                                : s.is_plus(i, k)        ? s.high[from]
                                                         : s.low[from];
        }
  return y;
}

inline std::vector<double> l2_reference(const SquareScene& s) {
  std::vector<double> y(s.points());
  for (size_t i = 0; i < s.rows.size(); ++i) {
    const auto image = size_t(s.rows[i]);
    const auto delta = [&](int r, int c, int k) {
      const size_t at = s.at(image, r, c, k);
      return double(s.best[at]) - double(s.center[at]);
    };
    const auto over_image = [&](auto&& body) {
      for (int k = 0; k < s.channels; ++k)
        for (int r = 0; r < s.height; ++r)
          for (int c = 0; c < s.width; ++c) body(r, c, k);
    };
    double whole = 0;
    over_image([&](int r, int c, int k) { whole += delta(r, c, k) * delta(r, c, k); });
    const double unused = std::max(s.eps * s.eps - whole, 0.0) / s.channels;
    const int top = s.place(i, 0, s.height), left = s.place(i, 1, s.width);
    const bool transposed = s.bits(i, 4) >= 1u << 31;
    std::vector<double> moved(s.values());
    for (int k = 0; k < s.channels; ++k) {
      double one = 0, both = 0;
      for (int r = 0; r < s.height; ++r)
        for (int c = 0; c < s.width; ++c) {
          const double square = delta(r, c, k) * delta(r, c, k);
          moved[s.at(0, r, c, k)] = s.in_window(i, 2, r, c) ? 0 : delta(r, c, k);
          if (s.in_window(i, 0, r, c)) one += square;
          if (s.in_window(i, 0, r, c) || s.in_window(i, 2, r, c)) both += square;
        }
      std::vector<double> fresh;
      double length = 0;
      for (int u = 0; u < s.side; ++u)
        for (int v = 0; v < s.side; ++v) {
          const double bump = double(s.bump[size_t(transposed ? v * s.side + u : u * s.side + v)]);
          fresh.push_back((s.is_plus(i, k) ? bump : -bump) +
                          delta(top + u, left + v, k) / (std::sqrt(one) + 1e-12));
          length += fresh.back() * fresh.back();
        }
      for (int u = 0; u < s.side; ++u)
        for (int v = 0; v < s.side; ++v)
          moved[s.at(0, top + u, left + v, k)] = fresh[size_t(u * s.side + v)] *
                                                 std::sqrt(unused + both) /
                                                 (std::sqrt(length) + 1e-12);
    }
    double length = 0;
    for (double d : moved) length += d * d;
    over_image([&](int r, int c, int k) {
      const double d = moved[s.at(0, r, c, k)];
      y[s.at(i, r, c, k)] =
          double(s.center[s.at(image, r, c, k)]) + (length > 0 ? s.eps * d / std::sqrt(length) : 0);
    });
  }
  return y;
}

// Windows of one pixel and of the whole image, images higher and wider than they are, one channel
// and more than a block of signs.
inline std::vector<SquareScene> square_scenes() {
  return {square_scene(5, 6, 9, 3, 4, {4, 0, 2}),    square_scene(3, 8, 8, 1, 3, {2, 1, 0}),
          square_scene(2, 11, 4, 4, 4, {1, 0}),      square_scene(2, 5, 5, 3, 5, {0, 1}),
          square_scene(3, 4, 7, 6, 1, {2, 2, 1, 0}), square_scene(1, 20, 18, 3, 7, {0}),
          square_scene(1, 1, 1, 1, 1, {0}),          square_scene(2, 4, 4, 2, 0, {1}),
          square_scene(2, 4, 4, 3, 2, {}),           square_scene(0, 4, 4, 3, 2, {}),
          square_scene(2, 3, 4, 0, 2, {1}),          square_scene(4, 6, 6, 3, 3, {3, 1}, 0)};
}

}  // namespace moat::tests
