#include <utility>

#include "train/joint_step.h"
#include "train/methods.h"

namespace moat::train {

using namespace engine;

namespace {
// Cross-entropy on the given images.
StepReport supervised_step(Learner& learner, const Tensor& images, const data::Batch& batch,
                           const StepSettings& step) {
  return joint_step(learner, batch, step, [&] {
    Terms terms;
    terms.adversarial = training_pass(learner, images, batch, step);
    terms.loss = with_auxiliary(
        mean_cross_entropy(terms.adversarial.logits, batch, step.train.label_smoothing),
        terms.adversarial);
    return terms;
  });
}
}  // namespace

StepReport natural_step(Learner& learner, const data::Batch& batch, const StepSettings& step) {
  StepReport out = supervised_step(learner, batch.images, batch, step);
  out.clean_correct = std::exchange(out.robust_correct, {});  // the images are the clean ones
  return out;
}

StepReport at_step(Learner& learner, const data::Batch& batch, const StepSettings& step) {
  const Tensor adversarial = training_attack(learner, batch, attacks::Loss::cross_entropy, step);
  return supervised_step(learner, adversarial, batch, step);
}

}  // namespace moat::train
