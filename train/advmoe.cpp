#include "engine/ops/elementwise.h"
#include "engine/tape.h"
#include "train/methods.h"
#include "train/objective.h"

namespace moat::train {

using namespace engine;

namespace {

struct Round {
  int number = 0;
  FiniteChecks earlier = {};  // of the step's rounds before
};

// One level: TRADES against fresh examples, updating one group of parameters; the other group is a
// constant to this tape, so that none of its gradients is computed.
StepReport level(Learner& learner, FlatParameters& group, double learning_rate,
                 double balance_weight, const data::Batch& batch, const StepSettings& step,
                 const Round& round) {
  const Tensor adversarial =
      training_attack(learner, batch, attacks::Loss::kl_divergence, step, round.number);
  Tape tape;
  group.watch(tape);
  const Terms terms = trades_terms(learner, batch, adversarial, step);
  StepReport out;
  out.checks = round.earlier;
  require_finite_scores(terms.clean, out.checks);
  require_finite_scores(terms.adversarial, out.checks);
  Tensor loss = terms.loss;
  if (balance_weight > 0) loss = add(loss, scale(balance_loss(terms.clean), balance_weight));
  descend(tape, loss, {&group}, {learning_rate}, step.train, out.checks);
  out.loss = loss;
  out.count_clean(terms.clean, batch.labels);
  out.count_robust(terms.adversarial, batch.labels);
  return out;
}

}  // namespace

StepReport advmoe_step(Learner& learner, const data::Batch& batch, const StepSettings& step) {
  require(learner.router.has_value(),
          "advmoe trains a router and experts: model.name must be a MoE model, see `moat models`");
  const StepReport lower = level(learner, learner.experts, step.learning_rate, 0, batch, step, {});
  return level(learner, *learner.router, step.router_learning_rate, step.train.balance, batch, step,
               {1, lower.checks});
}

}  // namespace moat::train
