#include "engine/ops/ball.h"

#include <cmath>

#include "engine/dispatch.h"

namespace moat::engine {

namespace {

void require_images(const char* op, const char* what, const Tensor& t, const Tensor& x) {
  require(t.defined() && t.shape() == x.shape() && t.dtype() == x.dtype(), [&] {
    return text(
        op, ": ", what, " must be ", name_of(x.dtype()), " ", x.shape().str(), " like x, ",
        t.defined() ? text("got ", name_of(t.dtype()), " ", t.shape().str()) : "got nothing");
  });
}

// gradient and velocity may be undefined.
Tensor stepped(const char* op, const Tensor& x, const Tensor& gradient, const Tensor& center,
               const BallStep& step, const Tensor& velocity) {
  require(x.defined() && x.rank() >= 1 && (x.dtype() == Dtype::f32 || x.dtype() == Dtype::f64),
          [&] { return text(op, ": x must be float32 or float64 [n, …]"); });
  require_images(op, "center", center, x);
  require(std::isfinite(step.eps) && step.eps >= 0,
          [&] { return text(op, ": eps must be finite and not negative, got ", step.eps); });
  require(std::isfinite(step.step) && std::isfinite(step.momentum), [&] {
    return text(op, ": step and momentum must be finite, got ", step.step, " and ", step.momentum);
  });
  const Tensor from = x.contiguous(), around = center.contiguous(),
               g = gradient.defined() ? gradient.contiguous() : gradient,
               y = Tensor::empty(x.shape(), x.dtype(), x.device());
  int64_t pixels = 1;
  for (int axis = 1; axis < x.rank(); ++axis) pixels *= x.dim(axis);
  const kernels::BallStep args{.x = from.data(),
                               .gradient = g.data(),
                               .center = around.data(),
                               .velocity = velocity.data(),
                               .y = y.data(),
                               .images = to_int(x.dim(0)),
                               .pixels = to_int(pixels),
                               .norm = step.norm,
                               .eps = step.eps,
                               .step = step.step,
                               .momentum = step.momentum,
                               .dtype = x.dtype()};
  dispatch(common_device({x, gradient, center, velocity}),
           [&](auto on) { return kernels::ball_step(on, args); });
  velocity.mark_written();
  return y;
}

}  // namespace

Tensor ball_step(const Tensor& x, const Tensor& gradient, const Tensor& center,
                 const BallStep& step, const Tensor& velocity) {
  require_images("ball_step", "gradient", gradient, x);
  if (velocity.defined()) {
    require_images("ball_step", "velocity", velocity, x);
    require(velocity.is_contiguous(),
            "ball_step: velocity is updated in place and must be contiguous, got a strided view");
  }
  return stepped("ball_step", x, gradient, center, step, velocity);
}

Tensor ball_project(const Tensor& x, const Tensor& center, Norm norm, double eps) {
  return stepped("ball_project", x, {}, center, {.norm = norm, .eps = eps}, {});
}

}  // namespace moat::engine
