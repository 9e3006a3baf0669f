#include "engine/ops/ball.h"

#include <cmath>

#include "engine/dispatch.h"
#include "engine/ops/operand.h"

namespace moat::engine {

namespace {

// gradient and velocity may be undefined.
Tensor stepped(const char* op, const Tensor& x, const Tensor& gradient, const Tensor& center,
               const BallStep& step, const Tensor& velocity) {
  require(x.defined() && x.rank() >= 1 && (x.dtype() == Dtype::f32 || x.dtype() == Dtype::f64),
          [&] { return text(op, ": x must be float32 or float64 [n, …]"); });
  require_operand(op, "center", center, x.shape(), x.dtype());
  require(std::isfinite(step.eps) && step.eps >= 0,
          [&] { return text(op, ": eps must be finite and not negative, got ", step.eps); });
  require(std::isfinite(step.step) && std::isfinite(step.momentum), [&] {
    return text(op, ": step and momentum must be finite, got ", step.step, " and ", step.momentum);
  });
  const Tensor from = x.contiguous(), around = center.contiguous(), g = gradient.contiguous(),
               y = Tensor::empty(x.shape(), x.dtype(), x.device());
  const kernels::BallStep args{.x = from.data(),
                               .gradient = g.data(),
                               .center = around.data(),
                               .velocity = velocity.data(),
                               .y = y.data(),
                               .images = to_int(x.dim(0)),
                               .pixels = to_int(pixels_of(x)),
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
  require_operand("ball_step", "gradient", gradient, x.shape(), x.dtype());
  if (velocity.defined()) {
    require_operand("ball_step", "velocity", velocity, x.shape(), x.dtype());
    require(velocity.is_contiguous(),
            "ball_step: velocity is updated in place and must be contiguous, got a strided view");
  }
  return stepped("ball_step", x, gradient, center, step, velocity);
}

Tensor ball_project(const Tensor& x, const Tensor& center, Norm norm, double eps) {
  return stepped("ball_project", x, {}, center, {.norm = norm, .eps = eps}, {});
}

}  // namespace moat::engine
