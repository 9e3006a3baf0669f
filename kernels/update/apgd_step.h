#pragma once

#include "kernels/target.h"
#include "kernels/update/ball_step.h"

namespace moat::kernels {

// One step of Auto-PGD per image (Croce & Hein 2020, algorithm 1, lines 3 and 7), P the projection
// on ball ∩ [0, 1] of ball_step.h:
//   z = P(x + step · sign(g)) (L∞) or P(x + step · g / ‖g‖₂) (L2; no step where g = 0)
//   y = P(x + momentum (z - x) + (1 - momentum) (x - previous))
// Gradients that are not finite count as in ball_step; a step that is negative or NaN counts as 0,
// an infinite one as the largest float32. x, previous and center lie in [0, 1]. What ball_step
// promises of y and the ball holds here, for any step and gradient.
struct ApgdStep {
  const void* x;         // [images, pixels]
  const void* previous;  // [images, pixels]
  const void* gradient;  // [images, pixels]
  const void* center;    // [images, pixels]
  const double* step;    // [images], pixel units
  void* y;               // [images, pixels]
  int images, pixels;
  Norm norm;
  double eps, momentum;  // eps in pixel units, momentum in [0, 1]
  Dtype dtype;           // f32 or f64
};
Status apgd_step(Cpu, const ApgdStep&);
Status apgd_step(Cuda, const ApgdStep&);

}  // namespace moat::kernels
