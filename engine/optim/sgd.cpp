#include "engine/optim/sgd.h"

#include <cmath>

#include "engine/dispatch.h"
#include "engine/optim/step_checks.h"

namespace moat::engine {

void sgd_step(const Tensor& weights, const Tensor& gradients, const Tensor& velocity,
              const SgdOptions& options, const Tensor& failures, const Tensor& lr_factor,
              const Tensor& decayed) {
  constexpr const char* kOp = "sgd_step";
  require_weights(kOp, weights);
  require_buffer(kOp, "gradients", gradients, weights);
  if (velocity.defined() || options.momentum != 0)
    require_buffer(kOp, "velocity", velocity, weights);
  require(std::isfinite(options.lr) && options.momentum >= 0 && options.weight_decay >= 0, [&] {
    return text("sgd_step: lr must be finite, momentum and weight decay not negative, got ",
                options.lr, ", ", options.momentum, ", ", options.weight_decay);
  });
  require_scalars(kOp, failures, lr_factor);
  require_mask(kOp, decayed, weights);
  dispatch(common_device({weights, gradients, velocity, failures, lr_factor, decayed}),
           [&](auto on) {
             return kernels::sgd(on, {.weights = weights.data(),
                                      .gradients = gradients.data(),
                                      .velocity = velocity.data(),
                                      .count = weights.size(),
                                      .lr = options.lr,
                                      .momentum = options.momentum,
                                      .weight_decay = options.weight_decay,
                                      .dtype = weights.dtype(),
                                      .lr_factor = pointer_or_null<double>(lr_factor),
                                      .skip = pointer_or_null<int64_t>(failures),
                                      .decayed = pointer_or_null<uint8_t>(decayed)});
           });
  weights.mark_written();
  velocity.mark_written();
}

}  // namespace moat::engine
