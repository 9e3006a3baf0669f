#include "train/joint_step.h"
#include "train/methods.h"

namespace moat::train {

StepReport trades_step(Learner& learner, const data::Batch& batch, const StepSettings& step) {
  const engine::Tensor adversarial =
      training_attack(learner, batch, attacks::Loss::kl_divergence, step);
  return joint_step(learner, batch, step,
                    [&] { return trades_terms(learner, batch, adversarial, step); });
}

}  // namespace moat::train
