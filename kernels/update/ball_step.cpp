#include "kernels/update/ball_step.h"

#include <algorithm>
#include <cmath>

#include "kernels/parallel.h"
#include "kernels/update/ball.h"

namespace moat::kernels {

namespace {

// One image.
template <class T>
struct Image {
  const T *x, *gradient, *center;
  T *velocity, *y;
  int pixels;

  Image(const BallStep& a, int64_t image) : pixels(a.pixels) {
    const int64_t at = image * a.pixels;
    const auto row = [at](auto* p) { return p ? p + at : nullptr; };
    x = row(static_cast<const T*>(a.x));
    gradient = row(static_cast<const T*>(a.gradient));
    center = row(static_cast<const T*>(a.center));
    velocity = row(static_cast<T*>(a.velocity));
    y = row(static_cast<T*>(a.y));
  }

  void update_velocity(double momentum) const {
    double norm = 0;
    for (int i = 0; i < pixels; ++i) norm += std::abs(usable(gradient[i]));
    for (int i = 0; i < pixels; ++i) {
      const double unit = norm > 0 ? usable(gradient[i]) / norm : 0;
      velocity[i] = static_cast<T>(momentum * velocity[i] + unit);
    }
  }

  void step_linf(double eps, double step, const T* direction) const {
    const T radius = rounded_down<T>(eps);
    for (int i = 0; i < pixels; ++i) {
      const T z = direction ? static_cast<T>(x[i] + step * sign(direction[i])) : x[i];
      const T low = around(center[i], -double{radius}), high = around(center[i], double{radius});
      y[i] = z > low ? std::min(z, high) : low;  // NaN lands on low
    }
  }

  void step_l2(double eps, double step, const T* direction) const {
    double factor = 0;
    if (direction) {
      double square = 0;
      for (int i = 0; i < pixels; ++i) square += usable(direction[i]) * usable(direction[i]);
      if (square > 0) factor = step / std::sqrt(square);
    }
    const auto offset = [&](int i) {
      const double moved = direction ? x[i] + factor * usable(direction[i]) : double{x[i]};
      return std::isnan(moved) ? 0 : moved - center[i];
    };
    double square = 0;
    for (int i = 0; i < pixels; ++i) square += offset(i) * offset(i);
    const double norm = std::sqrt(square), shrink = norm > eps ? eps / norm : 1;
    for (int i = 0; i < pixels; ++i) y[i] = around(center[i], shrink * offset(i));
  }
};

template <class T>
void step_images(const BallStep& a) {
  parallel_for(a.images, 1 + 8192 / (a.pixels + 1), [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) {
      const Image<T> image(a, i);
      if (a.velocity) image.update_velocity(a.momentum);
      const T* direction = a.velocity ? image.velocity : image.gradient;
      if (a.norm == Norm::linf)
        image.step_linf(a.eps, a.step, direction);
      else
        image.step_l2(a.eps, a.step, direction);
    }
  });
}

}  // namespace

Status ball_step(Cpu, const BallStep& a) {
  const bool finite = std::isfinite(a.eps) && std::isfinite(a.step) && std::isfinite(a.momentum);
  if (a.images < 0 || a.pixels < 0 || a.eps < 0 || !finite || (a.velocity && !a.gradient))
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
