#include "train/joint_step.h"

#include <optional>

#include "train/perturbed_weights.h"

namespace moat::train {

using namespace engine;

StepReport joint_step(Learner& learner, const data::Batch& batch, const StepSettings& step,
                      const std::function<Terms()>& objective) {
  const auto terms = [&] { return balanced(objective(), learner.router ? step.train.balance : 0); };
  const auto groups = learner.groups();
  std::optional<PerturbedWeights> perturbed;
  if (step.train.awp > 0 && step.epoch >= step.train.awp_warmup)
    perturbed.emplace(learner, groups, step.train.awp, [&] { return terms().loss; });
  return update(groups, learner.learning_rates(step), batch, step.train, terms, {},
                perturbed ? &*perturbed : nullptr);
}

}  // namespace moat::train
