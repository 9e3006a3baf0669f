#include "engine/ops/elementwise.h"
#include "engine/tape.h"
#include "train/methods.h"
#include "train/objective.h"

namespace moat::train {

using namespace engine;

StepReport trades_step(Learner& learner, const data::Batch& batch, const StepSettings& step) {
  const Tensor adversarial = training_attack(learner, batch, attacks::Loss::kl_divergence, step);
  Tape tape;
  const auto groups = learner.groups();
  for (FlatParameters* group : groups) group->watch(tape);
  const TradesTerms terms = trades_terms(learner, batch, adversarial, step);
  StepReport out;
  require_finite_scores(terms.clean, out.checks);
  require_finite_scores(terms.adversarial, out.checks);
  Tensor loss = terms.loss;
  if (learner.router && step.train.balance > 0)
    loss = add(loss, scale(balance_loss(terms.clean), step.train.balance));
  descend(tape, loss, groups, {step.learning_rate, step.router_learning_rate}, step.train,
          out.checks);
  out.loss = loss;
  out.count_clean(terms.clean, batch.labels);
  out.count_robust(terms.adversarial, batch.labels);
  return out;
}

}  // namespace moat::train
