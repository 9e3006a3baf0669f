#pragma once

#include "engine/ops/ball.h"
#include "kernels/update/fab_step.h"

namespace moat::engine {

using kernels::kFlatGradient;

struct FabStep {
  Norm norm = Norm::linf;
  double pull = 0.1;        // the largest α: how far a step is drawn towards the center's
  double overshoot = 1.05;  // η: how far it goes beyond the plane
};

// One step of FAB (Croce & Hein 2020, Algorithm 1) per image, not differentiable: from x and from
// center, moved by the least norm inside [0, 1] onto the plane where `difference` + <gradient, v -
// x> is 0, overshot, mixed and clipped (kernels/update/fab_step.h). With pull 0 and overshoot 1 it
// is the nearest point to x of plane ∩ box. x, center, gradient: float32 or float64 [n, …], x and
// center in [0, 1]; difference [n] in their format.
Tensor fab_step(const Tensor& x, const Tensor& center, const Tensor& gradient,
                const Tensor& difference, const FabStep& step);

}  // namespace moat::engine
