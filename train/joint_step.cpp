#include "train/joint_step.h"

#include <optional>

#include "engine/ops/elementwise.h"
#include "engine/tape.h"
#include "train/perturbed_weights.h"

namespace moat::train {

using namespace engine;

StepReport joint_step(Learner& learner, const data::Batch& batch, const StepSettings& step,
                      const std::function<Terms()>& objective) {
  const auto balanced = [&] {
    Terms terms = objective();
    const models::Prediction& p = terms.clean.logits.defined() ? terms.clean : terms.adversarial;
    if (learner.router && step.train.balance > 0)
      terms.loss = add(terms.loss, scale(balance_loss(p), step.train.balance));
    return terms;
  };
  const auto groups = learner.groups();
  std::optional<PerturbedWeights> perturbed;
  if (step.train.awp > 0 && step.epoch >= step.train.awp_warmup)
    perturbed.emplace(learner, groups, step.train.awp, [&] { return balanced().loss; });
  Tape tape;
  for (FlatParameters* group : groups) group->watch(tape);
  const Terms terms = balanced();
  StepReport out;
  require_finite_scores(terms.clean, out.checks);
  require_finite_scores(terms.adversarial, out.checks);
  descend(tape, terms.loss, groups, learner.learning_rates(step), step.train, out.checks,
          perturbed ? &*perturbed : nullptr);
  out.loss = terms.loss;
  if (terms.clean.logits.defined()) out.count_clean(terms.clean, batch.labels);
  out.count_robust(terms.adversarial, batch.labels);
  return out;
}

}  // namespace moat::train
