#pragma once

#include "engine/tensor.h"
#include "kernels/update/ball_step.h"

namespace moat::engine {

using kernels::Norm;  // linf, l2

struct BallStep {
  Norm norm = Norm::linf;
  double eps = 0;   // radius, in pixel units ([0, 1])
  double step = 0;  // step size, same unit
  double momentum = 0;  // velocity = momentum · velocity + g/‖g‖₁ when `velocity` is defined (MIM)
};

// One attack step per image, not differentiable: x + step · sign(g) (L∞) or + step · g/‖g‖₂
// (L2; however small g is, none where it is 0), projected on the ball of radius eps around `center`
// and on [0, 1]. The returned float32 point satisfies |x' - center| <= eps in float32 arithmetic
// for every pixel (L∞), or ‖x' - center‖₂ <= eps (1 + 1e-6) (L2), for a center in [0, 1]. A NaN
// gradient counts as zero. x, gradient, center, velocity: [n, …]; velocity may be undefined, else
// it is updated in place and must be contiguous.
Tensor ball_step(const Tensor& x, const Tensor& gradient, const Tensor& center,
                 const BallStep& step, const Tensor& velocity = {});

// Projects x on the ball around center and on [0, 1], without a step.
Tensor ball_project(const Tensor& x, const Tensor& center, Norm norm, double eps);

}  // namespace moat::engine
