#include "kernels/update/apgd_step.h"

#include <algorithm>
#include <cmath>

#include "kernels/parallel.h"
#include "kernels/update/ball.h"

namespace moat::kernels {

namespace {

// One image.
template <class T>
struct Image {
  const T *x, *previous, *gradient, *center;
  T* y;
  int pixels;
  double step, momentum;

  Image(const ApgdStep& a, int64_t image) : pixels(a.pixels), momentum(a.momentum) {
    const int64_t at = image * a.pixels;
    x = static_cast<const T*>(a.x) + at;
    previous = static_cast<const T*>(a.previous) + at;
    gradient = static_cast<const T*>(a.gradient) + at;
    center = static_cast<const T*>(a.center) + at;
    y = static_cast<T*>(a.y) + at;
    step = std::max(usable(a.step[image]), 0.0);
  }

  // From x, once it is known where the gradient leads.
  double with_momentum(int i, double z) const {
    return x[i] + momentum * (z - x[i]) + (1 - momentum) * (double{x[i]} - previous[i]);
  }

  void step_linf(double eps) const {
    const double radius = rounded_down<T>(eps);
    for (int i = 0; i < pixels; ++i) {
      const double low = around(center[i], -radius), high = around(center[i], radius),
                   z = std::clamp(x[i] + step * sign(gradient[i]), low, high),
                   to = with_momentum(i, z);
      y[i] = static_cast<T>(to > low ? std::min(to, high) : low);
    }
  }

  // The factor that brings offsets from the center into the ball.
  template <class Offset>
  double shrink_of(double eps, Offset offset) const {
    double square = 0;
    for (int i = 0; i < pixels; ++i) square += offset(i) * offset(i);
    const double norm = std::sqrt(square);
    return norm > eps ? eps / norm : 1;
  }

  void step_l2(double eps) const {
    double square = 0;
    for (int i = 0; i < pixels; ++i) square += usable(gradient[i]) * usable(gradient[i]);
    const double per_unit = square > 0 ? 1 / std::sqrt(square) : 0;
    const auto stepped = [&](int i) {
      return x[i] + step * (per_unit * usable(gradient[i])) - center[i];
    };
    const double first = shrink_of(eps, stepped);
    const auto offset = [&](int i) {
      const double z = std::clamp(center[i] + first * stepped(i), 0.0, 1.0);
      return with_momentum(i, z) - center[i];
    };
    const double second = shrink_of(eps, offset);
    for (int i = 0; i < pixels; ++i) y[i] = around(center[i], second * offset(i));
  }
};

template <class T>
void step_images(const ApgdStep& a) {
  parallel_for(a.images, 1 + 8192 / (a.pixels + 1), [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) {
      const Image<T> image(a, i);
      if (a.norm == Norm::linf)
        image.step_linf(a.eps);
      else
        image.step_l2(a.eps);
    }
  });
}

}  // namespace

Status apgd_step(Cpu, const ApgdStep& a) {
  if (a.images < 0 || a.pixels < 0 || a.eps < 0 || !std::isfinite(a.eps) ||
      !(a.momentum >= 0 && a.momentum <= 1))
    return Status::bad_args;
  switch (a.dtype) {
    case Dtype::f64:
      step_images<double>(a);
      return Status::ok;
    case Dtype::f32:
      step_images<float>(a);
      return Status::ok;
    default:
      return Status::unsupported;
  }
}

}  // namespace moat::kernels
