#include "engine/ops/elementwise.h"
#include "engine/tape.h"
#include "train/methods.h"
#include "train/objective.h"

namespace moat::train {

using namespace engine;

namespace {

// One level: TRADES against fresh examples, updating one group of parameters; the other group is a
// constant to this tape, so that none of its gradients is computed.
StepStatistics level(Learner& learner, FlatParameters& group, double learning_rate,
                     double balance_weight, const data::Batch& batch, const StepSettings& step,
                     int round) {
  const Tensor adversarial =
      training_attack(learner, batch, attacks::Loss::kl_divergence, step, round);
  Tape tape;
  group.watch(tape);
  const TradesTerms terms = trades_terms(learner, batch, adversarial, step.train);
  check_scores(terms.clean);
  check_scores(terms.adversarial);
  Tensor loss = terms.loss;
  if (balance_weight > 0) loss = add(loss, scale(balance_loss(terms.clean), balance_weight));
  descend(tape, loss, {&group}, {learning_rate}, step.train);
  StepStatistics out;
  out.loss = loss.item() * static_cast<double>(batch.size());
  count_clean(out, terms.clean, batch.labels);
  count_robust(out, terms.adversarial, batch.labels);
  return out;
}

}  // namespace

StepStatistics advmoe_step(Learner& learner, const data::Batch& batch, const StepSettings& step) {
  require(learner.router.has_value(),
          "advmoe trains a router and experts: model.name must be a MoE model, see `moat models`");
  level(learner, learner.experts, step.learning_rate, 0, batch, step, 0);
  return level(learner, *learner.router, step.router_learning_rate, step.train.balance, batch, step,
               1);
}

}  // namespace moat::train
