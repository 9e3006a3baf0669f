#pragma once

#include "kernels/target.h"

namespace moat::kernels {

enum class Norm { linf, l2 };

// One attack step per image and the projection on ball ∩ [0, 1]:
//   z = x + step · sign(g) (L∞) or x + step · g / ‖g‖₂ (L2; no step where g = 0)
//   y = the nearest point to z of the ball of radius eps around center, then clipped to [0, 1]
// A NaN gradient counts as 0, an infinite one as the largest float32. With a velocity (MIM),
// velocity = momentum · velocity + g / ‖g‖₁ in place and takes the place of g. gradient = nullptr
// projects only.
//
// center lies in [0, 1]. Roundings are directed towards it, so that the stored y obeys
// |y - center| <= eps in every pixel (L∞), evaluated in the format or wider, and
// ‖y - center‖₂ <= eps (1 + 1e-6) (L2). Sums run in float64 over one image at a time.
struct BallStep {
  const void* x;         // [images, pixels]
  const void* gradient;  // [images, pixels] or nullptr
  const void* center;    // [images, pixels]
  void* velocity;        // [images, pixels] or nullptr
  void* y;               // [images, pixels]
  int images, pixels;
  Norm norm;
  double eps, step, momentum;  // pixel units
  Dtype dtype;                 // f32 or f64
};
Status ball_step(Cpu, const BallStep&);
Status ball_step(Cuda, const BallStep&);

}  // namespace moat::kernels
