#include "engine/optim/adamw.h"

#include <cmath>

#include "engine/dispatch.h"
#include "engine/optim/step_checks.h"
#include "kernels/update/adamw.h"

namespace moat::engine {

void adamw_step(const Tensor& weights, const Tensor& gradients, const AdamwMoments& moments,
                const AdamwOptions& options, const Tensor& failures, const Tensor& lr_factor,
                const Tensor& decayed) {
  constexpr const char* kOp = "adamw_step";
  require_weights(kOp, weights);
  require_buffer(kOp, "gradients", gradients, weights);
  require_buffer(kOp, "the first moment", moments.first, weights);
  require_buffer(kOp, "the second moment", moments.second, weights);
  require_scalars(kOp, failures, lr_factor);
  require_mask(kOp, decayed, weights);
  const Tensor& powers = moments.powers;
  require(powers.defined() && powers.shape() == Shape{2} && powers.dtype() == Dtype::f64 &&
              powers.is_contiguous(),
          "adamw_step: powers must be contiguous float64 [2]");
  const auto is_decay = [](double beta) { return beta >= 0 && beta < 1; };
  require(std::isfinite(options.lr) && is_decay(options.beta1) && is_decay(options.beta2) &&
              options.eps >= 0 && options.weight_decay >= 0,
          [&] {
            return text(
                "adamw_step: lr must be finite, both betas from 0 to below 1, eps and weight decay "
                "not negative, got ",
                options.lr, ", ", options.beta1, ", ", options.beta2, ", ", options.eps, ", ",
                options.weight_decay);
          });
  dispatch(common_device({weights, gradients, moments.first, moments.second, powers, failures,
                          lr_factor, decayed}),
           [&](auto on) {
             return kernels::adamw(on, {.weights = weights.data(),
                                        .gradients = gradients.data(),
                                        .first_moment = moments.first.data(),
                                        .second_moment = moments.second.data(),
                                        .powers = powers.data_as<double>(),
                                        .count = weights.size(),
                                        .lr = options.lr,
                                        .beta1 = options.beta1,
                                        .beta2 = options.beta2,
                                        .eps = options.eps,
                                        .weight_decay = options.weight_decay,
                                        .dtype = weights.dtype(),
                                        .lr_factor = pointer_or_null<double>(lr_factor),
                                        .skip = pointer_or_null<int64_t>(failures),
                                        .decayed = pointer_or_null<uint8_t>(decayed)});
           });
  for (const Tensor* written : {&weights, &moments.first, &moments.second, &powers})
    written->mark_written();
}

}  // namespace moat::engine
