#include "engine/optim/sgd.h"

#include <cmath>

#include "engine/dispatch.h"

namespace moat::engine {

namespace {

void require_buffer(const char* what, const Tensor& t, const Tensor& weights) {
  require(t.defined() && t.shape() == weights.shape() && t.dtype() == weights.dtype() &&
              t.is_contiguous(),
          [&] {
            return text("sgd_step: ", what, " must be contiguous ", name_of(weights.dtype()), " ",
                        weights.shape().str(), " like the weights, got ",
                        t.defined() ? text(name_of(t.dtype()), " ", t.shape().str()) : "nothing");
          });
}

}  // namespace

void sgd_step(const Tensor& weights, const Tensor& gradients, const Tensor& velocity,
              const SgdOptions& options, const Tensor& failures) {
  require(weights.defined() && weights.is_contiguous() &&
              (weights.dtype() == Dtype::f32 || weights.dtype() == Dtype::f64),
          "sgd_step: weights must be contiguous float32 or float64");
  require_buffer("gradients", gradients, weights);
  if (velocity.defined() || options.momentum != 0) require_buffer("velocity", velocity, weights);
  require(std::isfinite(options.lr) && options.momentum >= 0 && options.weight_decay >= 0, [&] {
    return text("sgd_step: lr must be finite, momentum and weight decay not negative, got ",
                options.lr, ", ", options.momentum, ", ", options.weight_decay);
  });
  require(options.form == MomentumForm::classic || options.momentum > 0,
          "sgd_step: Nesterov momentum needs a momentum above 0");
  require(!failures.defined() || (failures.shape() == Shape{1} && failures.dtype() == Dtype::i64),
          "sgd_step: failures must be int64 [1]");
  dispatch(common_device({weights, gradients, velocity, failures}), [&](auto on) {
    return kernels::sgd(on, {.weights = weights.data(),
                             .gradients = gradients.data(),
                             .velocity = velocity.data(),
                             .count = weights.size(),
                             .lr = options.lr,
                             .momentum = options.momentum,
                             .weight_decay = options.weight_decay,
                             .form = options.form,
                             .dtype = weights.dtype(),
                             .skip = failures.defined() ? failures.data_as<int64_t>() : nullptr});
  });
  weights.mark_written();
  velocity.mark_written();
}

}  // namespace moat::engine
