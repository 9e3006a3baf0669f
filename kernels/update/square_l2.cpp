#include "kernels/update/square_l2.h"

#include <algorithm>
#include <cmath>

#include "kernels/index_range.h"
#include "kernels/parallel.h"

namespace moat::kernels {

namespace {

// One image. Deltas are kept in y until all of them are known.
struct Image {
  const SquareL2& a;
  const float *best, *center;
  float* y;
  int32_t id;
  SquareDraw drawn;

  int64_t at(int row, int column, int channel) const {
    return (int64_t{row} * a.width + column) * a.channels + channel;
  }
  double delta(int64_t i) const { return double{best[i]} - center[i]; }
  double bump(int row, int column) const {
    const int u = row - drawn.first.top, v = column - drawn.first.left;
    return drawn.transposed ? a.bump[v * a.side + u] : a.bump[u * a.side + v];
  }
  template <class Body>
  void for_each_pixel(Body&& body) const {
    for (int row = 0; row < a.height; ++row)
      for (int column = 0; column < a.width; ++column) body(row, column);
  }

  double squared_norm() const {
    double sum = 0;
    for (int64_t i = 0; i < at(a.height, 0, 0); ++i) sum += delta(i) * delta(i);
    return sum;
  }

  // Returns the squared norm of the channel's deltas.
  double move(int channel, double sign, double left_over) const {
    double in_first = 0, in_both = 0, length = 0, sum = 0;
    for_each_pixel([&](int row, int column) {
      const double d = delta(at(row, column, channel));
      const bool is_first = drawn.first.holds(row, column);
      if (is_first) in_first += d * d;
      if (is_first || drawn.second.holds(row, column)) in_both += d * d;
    });
    const double per_unit = 1 / (std::sqrt(in_first) + 1e-12);
    const auto bent = [&](int row, int column) {
      return sign * bump(row, column) + per_unit * delta(at(row, column, channel));
    };
    for_each_pixel([&](int row, int column) {
      if (drawn.first.holds(row, column)) length += bent(row, column) * bent(row, column);
    });
    const double scale = std::sqrt(left_over + in_both) / (std::sqrt(length) + 1e-12);
    for_each_pixel([&](int row, int column) {
      const int64_t i = at(row, column, channel);
      const double moved = drawn.first.holds(row, column)    ? scale * bent(row, column)
                           : drawn.second.holds(row, column) ? 0
                                                             : delta(i);
      sum += moved * moved;
      y[i] = static_cast<float>(moved);
    });
    return sum;
  }

  void step() const {
    const double unused = std::max(a.eps * a.eps - squared_norm(), 0.0);
    SquareSigns signs(a.key, id);
    double sum = 0;
    for (int k = 0; k < a.channels; ++k)
      sum += move(k, signs.is_plus(k) ? 1 : -1, unused / a.channels);
    const double factor = sum > 0 ? a.eps / std::sqrt(sum) : 0;
    for (int64_t i = 0; i < at(a.height, 0, 0); ++i)
      y[i] = static_cast<float>(center[i] + factor * y[i]);
  }
};

}  // namespace

Status square_l2(Cpu, const SquareL2& a) {
  if (!is_valid(a) || !indices_in_range(a.rows, a.n, a.images)) return Status::bad_args;
  const int64_t values = int64_t{a.height} * a.width * a.channels;
  parallel_for(a.n, 1 + 4096 / (values + 1), [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) {
      const int64_t image = a.rows[i] * values;
      Image{.a = a,
            .best = a.best + image,
            .center = a.center + image,
            .y = a.y + i * values,
            .id = a.ids[i],
            .drawn = square_draw(a.key, a.ids[i], a.side, a.height, a.width)}
          .step();
    }
  });
  return Status::ok;
}

}  // namespace moat::kernels
