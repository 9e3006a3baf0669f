#include "engine/ops/fab_step.h"

#include <cmath>

#include "engine/dispatch.h"
#include "engine/ops/operand.h"
#include "kernels/update/fab_step.h"

namespace moat::engine {

Tensor fab_step(const Tensor& x, const Tensor& center, const Tensor& gradient,
                const Tensor& difference, const FabStep& step) {
  require(x.defined() && x.rank() >= 1 && (x.dtype() == Dtype::f32 || x.dtype() == Dtype::f64),
          "fab_step: x must be float32 or float64 [n, …]");
  require_operand("fab_step", "center", center, x.shape(), x.dtype());
  require_operand("fab_step", "gradient", gradient, x.shape(), x.dtype());
  require_operand("fab_step", "difference", difference, {x.dim(0)}, x.dtype());
  require(step.pull >= 0 && step.pull <= 1 && step.overshoot >= 0 && std::isfinite(step.overshoot),
          [&] {
            return text(
                "fab_step: pull must be in [0, 1] and overshoot finite and not negative, got ",
                step.pull, " and ", step.overshoot);
          });
  const Tensor from = x.contiguous(), around = center.contiguous(), g = gradient.contiguous(),
               d = difference.contiguous(), y = Tensor::empty(x.shape(), x.dtype(), x.device());
  const kernels::FabStep args{.x = from.data(),
                              .center = around.data(),
                              .gradient = g.data(),
                              .difference = d.data(),
                              .y = y.data(),
                              .images = to_int(x.dim(0)),
                              .pixels = to_int(pixels_of(x)),
                              .norm = step.norm,
                              .pull = step.pull,
                              .overshoot = step.overshoot,
                              .dtype = x.dtype()};
  dispatch(common_device({x, center, gradient, difference}),
           [&](auto on) { return kernels::fab_step(on, args); });
  return y;
}

}  // namespace moat::engine
