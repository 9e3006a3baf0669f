#pragma once

#include "engine/tensor.h"
#include "kernels/update/ball_step.h"

namespace moat::engine {

struct ApgdStep {
  kernels::Norm norm = kernels::Norm::linf;
  double eps = 0;       // radius, in pixel units
  double momentum = 1;  // in [0, 1]: share of the gradient's step, the rest of the last one
};

// One step of Auto-PGD (Croce & Hein 2020, algorithm 1), not differentiable; P projects on the ball
// around center and on [0, 1] with the promises of ball_step:
//   z = P(x + step · sign(g)) or P(x + step · g / ‖g‖₂),
//   x' = P(x + momentum (z - x) + (1 - momentum) (x - previous)).
// x, previous, gradient and center: [n, …] in one dtype, float32 or float64; steps: float64 [n].
Tensor apgd_step(const Tensor& x, const Tensor& previous, const Tensor& gradient,
                 const Tensor& center, const Tensor& steps, const ApgdStep& step);

// What Auto-PGD remembers of each image.
struct ApgdProgress {
  Tensor step;                                // float64 [n]
  Tensor best_points, best_gradient;          // float32 [n, …]
  Tensor best_loss, last_loss, checked_loss;  // float32 [n]
  Tensor rises, halved;                       // int32 [n]
};

// After the first look at points [n, …], of which gradient and loss [n] are. Copies them.
ApgdProgress apgd_progress(const Tensor& points, const Tensor& gradient, const Tensor& loss,
                           double step);

// After each later look, kernels/update/apgd_progress.h: remembers the best point, and at a
// checkpoint, `window` looks after the last (0: not at one), halves the steps of the images that
// rise in no more than rho · window of them, or stay where they are; these go back to their best
// point: points and gradient change in place and must be contiguous float32.
void update(const ApgdProgress& progress, const Tensor& points, const Tensor& gradient,
            const Tensor& loss, int window, double rho);

}  // namespace moat::engine
