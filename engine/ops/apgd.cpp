#include "engine/ops/apgd.h"

#include <cmath>

#include "engine/dispatch.h"
#include "engine/ops/operand.h"
#include "kernels/update/apgd_progress.h"
#include "kernels/update/apgd_step.h"

namespace moat::engine {

Tensor apgd_step(const Tensor& x, const Tensor& previous, const Tensor& gradient,
                 const Tensor& center, const Tensor& steps, const ApgdStep& step) {
  require(x.defined() && x.rank() >= 1 && (x.dtype() == Dtype::f32 || x.dtype() == Dtype::f64),
          "apgd_step: x must be float32 or float64 [n, …]");
  require_operand("apgd_step", "previous", previous, x.shape(), x.dtype());
  require_operand("apgd_step", "gradient", gradient, x.shape(), x.dtype());
  require_operand("apgd_step", "center", center, x.shape(), x.dtype());
  require_operand("apgd_step", "steps", steps, {x.dim(0)}, Dtype::f64);
  require(std::isfinite(step.eps) && step.eps >= 0,
          [&] { return text("apgd_step: eps must be finite and not negative, got ", step.eps); });
  require(step.momentum >= 0 && step.momentum <= 1,
          [&] { return text("apgd_step: momentum must be in [0, 1], got ", step.momentum); });
  const Tensor from = x.contiguous(), before = previous.contiguous(), g = gradient.contiguous(),
               around = center.contiguous(), s = steps.contiguous(),
               y = Tensor::empty(x.shape(), x.dtype(), x.device());
  const kernels::ApgdStep args{.x = from.data(),
                               .previous = before.data(),
                               .gradient = g.data(),
                               .center = around.data(),
                               .step = s.data_as<double>(),
                               .y = y.data(),
                               .images = to_int(x.dim(0)),
                               .pixels = to_int(pixels_of(x)),
                               .norm = step.norm,
                               .eps = step.eps,
                               .momentum = step.momentum,
                               .dtype = x.dtype()};
  dispatch(common_device({x, previous, gradient, center, steps}),
           [&](auto on) { return kernels::apgd_step(on, args); });
  return y;
}

ApgdProgress apgd_progress(const Tensor& points, const Tensor& gradient, const Tensor& loss,
                           double step) {
  const Shape n{points.dim(0)};
  require_operand("apgd_progress", "gradient", gradient, points.shape(), Dtype::f32);
  require_operand("apgd_progress", "loss", loss, n, Dtype::f32);
  const Device device = points.device();
  return {.step = Tensor::full(n, step, Dtype::f64, device),
          .best_points = points.clone(),
          .best_gradient = gradient.clone(),
          .best_loss = loss.clone(),
          .last_loss = loss.clone(),
          .checked_loss = loss.clone(),
          .rises = Tensor::zeros(n, Dtype::i32, device),
          .halved = Tensor::full(n, 1, Dtype::i32, device)};
}

void update(const ApgdProgress& p, const Tensor& points, const Tensor& gradient, const Tensor& loss,
            int window, double rho) {
  const Shape& shape = p.best_points.shape();
  require_operand("apgd_progress", "points", points, shape, Dtype::f32);
  require_operand("apgd_progress", "gradient", gradient, shape, Dtype::f32);
  require_operand("apgd_progress", "loss", loss, {shape[0]}, Dtype::f32);
  require(points.is_contiguous() && gradient.is_contiguous(),
          "apgd_progress: points and gradient are changed in place and must be contiguous, got a "
          "strided view");
  require(window >= 0 && std::isfinite(rho), [&] {
    return text("apgd_progress: window must be >= 0 and rho finite, got ", window, " and ", rho);
  });
  const Tensor now = loss.contiguous();
  const kernels::ApgdProgress args{.loss = now.data_as<float>(),
                                   .points = points.data_as<float>(),
                                   .gradient = gradient.data_as<float>(),
                                   .best_points = p.best_points.data_as<float>(),
                                   .best_gradient = p.best_gradient.data_as<float>(),
                                   .best_loss = p.best_loss.data_as<float>(),
                                   .last_loss = p.last_loss.data_as<float>(),
                                   .checked_loss = p.checked_loss.data_as<float>(),
                                   .rises = p.rises.data_as<int32_t>(),
                                   .halved = p.halved.data_as<int32_t>(),
                                   .step = p.step.data_as<double>(),
                                   .n = to_int(shape[0]),
                                   .pixels = pixels_of(points),
                                   .window = window,
                                   .rho = rho};
  dispatch(common_device({points, gradient, loss, p.best_points}),
           [&](auto on) { return kernels::apgd_progress(on, args); });
  for (const Tensor* changed : {&points, &gradient, &p.step, &p.best_points, &p.best_gradient})
    changed->mark_written();
}

}  // namespace moat::engine
