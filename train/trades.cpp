#include "engine/ops/elementwise.h"
#include "engine/tape.h"
#include "train/methods.h"
#include "train/objective.h"

namespace moat::train {

using namespace engine;

StepStatistics trades_step(Learner& learner, const data::Batch& batch, const StepSettings& step) {
  const Tensor adversarial = training_attack(learner, batch, attacks::Loss::kl_divergence, step);
  Tape tape;
  const auto groups = learner.groups();
  for (FlatParameters* group : groups) group->watch(tape);
  const TradesTerms terms = trades_terms(learner, batch, adversarial, step.train);
  check_scores(terms.clean);
  check_scores(terms.adversarial);
  Tensor loss = terms.loss;
  if (learner.router && step.train.balance > 0)
    loss = add(loss, scale(balance_loss(terms.clean), step.train.balance));
  descend(tape, loss, groups, {step.learning_rate, step.router_learning_rate}, step.train);
  StepStatistics out;
  out.loss = loss.item() * static_cast<double>(batch.size());
  count_clean(out, terms.clean, batch.labels);
  count_robust(out, terms.adversarial, batch.labels);
  return out;
}

}  // namespace moat::train
