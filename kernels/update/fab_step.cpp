#include "kernels/update/fab_step.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/parallel.h"

namespace moat::kernels {

namespace {

// The way onto the plane from one point.
struct Move {
  double side = 1;    // of the plane: 1 where the difference is to fall
  double lambda = 0;  // pixel i moves by min(lambda · q_i, its room)
  double norm = 0;
};

// Over the pixels at one lambda.
struct Sums {
  double taken = 0;    // Σ |w_i| room_i of the exhausted pixels
  double slope = 0;    // Σ |w_i| q_i of the others
  int64_t open = 0;    // number of the others
  double square = 0;   // ‖move‖² (L2)
  double largest = 0;  // ‖move‖ (L∞)
};

template <class T>
struct Image {
  const T *x, *center, *gradient;
  T* y;
  double difference, least;  // of the gradients that count
  int pixels;
  Norm norm;

  Image(const FabStep& a, int64_t image)
      : least(a.norm == Norm::l2 ? kFlatGradient : 0), pixels(a.pixels), norm(a.norm) {
    const int64_t at = image * a.pixels;
    x = static_cast<const T*>(a.x) + at;
    center = static_cast<const T*>(a.center) + at;
    gradient = static_cast<const T*>(a.gradient) + at;
    y = static_cast<T*>(a.y) + at;
    const T d = static_cast<const T*>(a.difference)[image];
    difference = std::isnan(d) ? 0 : double{d};
  }

  double usable(T g) const {
    constexpr double kLargest = std::numeric_limits<float>::max();
    return std::abs(g) >= least ? std::clamp(double{g}, -kLargest, kLargest) : 0;
  }

  // Size of pixel i's move against w, and the room that it has.
  double wanted(double lambda, double w) const {
    return norm == Norm::linf ? lambda : lambda * std::abs(w);
  }
  static double room(double v, double w) { return w > 0 ? v : 1 - v; }

  double moved(const T* v, const Move& m, double overshoot, int i) const {
    const double w = m.side * usable(gradient[i]);
    if (w == 0) return v[i];
    const double size = std::min(wanted(m.lambda, w), room(v[i], w));
    return v[i] - overshoot * (w > 0 ? size : -size);
  }

  Sums sums_at(const T* v, double side, double lambda) const {
    Sums s;
    for (int i = 0; i < pixels; ++i) {
      const double w = side * usable(gradient[i]);
      if (w == 0) continue;
      const double want = wanted(lambda, w), has = room(v[i], w), size = std::min(want, has);
      if (want < has) {
        s.slope += norm == Norm::linf ? std::abs(w) : w * w;
        ++s.open;
      } else {
        s.taken += std::abs(w) * has;
      }
      s.square += size * size;
      s.largest = std::max(s.largest, size);
    }
    return s;
  }

  // Takes `excess`, of either sign, away from v.
  Move onto_plane(const T* v, double excess) const {
    Move m{.side = excess < 0 ? -1.0 : 1.0};
    for (Sums s = sums_at(v, m.side, 0);;) {
      m.lambda = s.slope > 0 ? std::max(m.lambda, (std::abs(excess) - s.taken) / s.slope)
                             : std::numeric_limits<double>::infinity();
      const int64_t open = s.open;
      s = sums_at(v, m.side, m.lambda);
      m.norm = norm == Norm::linf ? s.largest : std::sqrt(s.square);
      if (s.open == open) return m;
    }
  }

  void step(double pull, double overshoot) const {
    double between = 0;  // <gradient, center - x>
    for (int i = 0; i < pixels; ++i) between += usable(gradient[i]) * (double{center[i]} - x[i]);
    const Move from_x = onto_plane(x, difference), back = onto_plane(center, difference + between);
    const double near = std::max(from_x.norm, kSmallestMove),
                 far = std::max(back.norm, kSmallestMove),
                 alpha = std::min(near / (near + far), pull);
    for (int i = 0; i < pixels; ++i) {
      const double mixed =
          (1 - alpha) * moved(x, from_x, overshoot, i) + alpha * moved(center, back, overshoot, i);
      y[i] = static_cast<T>(std::clamp(mixed, 0.0, 1.0));
    }
  }
};

template <class T>
Status step_images(const FabStep& a) {
  parallel_for(a.images, 1 + 2048 / (a.pixels + 1), [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) Image<T>(a, i).step(a.pull, a.overshoot);
  });
  return Status::ok;
}

}  // namespace

Status fab_step(Cpu, const FabStep& a) {
  if (a.images < 0 || a.pixels < 0 || !(a.pull >= 0 && a.pull <= 1) ||
      !(a.overshoot >= 0 && std::isfinite(a.overshoot)))
    return Status::bad_args;
  switch (a.dtype) {
    case Dtype::f64:
      return step_images<double>(a);
    case Dtype::f32:
      return step_images<float>(a);
    default:
      return Status::unsupported;
  }
}

}  // namespace moat::kernels
