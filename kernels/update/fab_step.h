#pragma once

#include "kernels/target.h"
#include "kernels/update/ball_step.h"

namespace moat::kernels {

// One step of FAB per image (Croce & Hein 2020, Algorithm 1): the decision boundary near x is taken
// for the plane {v : difference + <gradient, v - x> = 0}, and the step goes beyond it,
//   y = clip((1 - α) (x + overshoot · m(x)) + α (center + overshoot · m(center)), 0, 1)
//   α = min(‖m(x)‖ / (‖m(x)‖ + ‖m(center)‖), pull), norms of at least 1e-8
// where m(v) is the move of least norm that takes v onto the plane and leaves no pixel outside
// [0, 1]; where the plane does not meet the box, m(v) takes all the room towards it.
//
// m(v) = -s_i · min(λ q_i, room_i), with s the sign of gradient · (side of v), q = 1 (L∞) or
// |gradient| (L2) and room_i the way of pixel i to the wall. λ is found by Newton's method from
// the left on the sum that is to be taken away, which is concave and piecewise linear in λ: it
// meets the solution after as many steps as sets of exhausted pixels are passed. Sums run in
// float64 over one image at a time.
//
// A NaN gradient counts as 0, and in L2 one below 1e-8, as in AutoAttack's projections; an infinite
// one as the largest float32, a NaN difference as 0. pull = 0, overshoot = 1 is the projection
// x + m(x). x and center lie in [0, 1].
struct FabStep {
  const void* x;           // [images, pixels]
  const void* center;      // [images, pixels]
  const void* gradient;    // [images, pixels]: of the difference, at x
  const void* difference;  // [images]
  void* y;                 // [images, pixels]
  int images, pixels;
  Norm norm;
  double pull, overshoot;  // 0 <= pull <= 1, overshoot >= 0
  Dtype dtype;             // f32 or f64
};
Status fab_step(Cpu, const FabStep&);
Status fab_step(Cuda, const FabStep&);

inline constexpr double kFlatGradient = 1e-8;  // smaller ones count as 0 in L2
inline constexpr double kSmallestMove = 1e-8;

}  // namespace moat::kernels
