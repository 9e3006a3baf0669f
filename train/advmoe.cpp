#include "train/advmoe.h"

#include "engine/ops/loss.h"
#include "train/methods.h"
#include "train/objective.h"

namespace moat::train {

using namespace engine;

StepReport trades_level(Learner& learner, FlatParameters& group, double learning_rate,
                        double balance_weight, const data::Batch& batch, const Tensor& adversarial,
                        const StepSettings& step, const FiniteChecks& earlier) {
  return update(
      {&group}, {learning_rate}, batch, step.train,
      [&] { return balanced(trades_terms(learner, batch, adversarial, step), balance_weight); },
      earlier);
}

StepReport advmoe_step(Learner& learner, const data::Batch& batch, const StepSettings& step) {
  require(learner.router.has_value(),
          "advmoe trains a router and experts: model.name must be a MoE model, see `moat models`");
  if (step.train.form == "released")
    return released_advmoe_step(learner, batch, step, kl_divergence);
  const auto attack = [&](int round) {
    return training_attack(learner, batch, attacks::Loss::kl_divergence, step, round);
  };
  const StepReport lower =
      trades_level(learner, *learner.experts, step.learning_rate, 0, batch, attack(0), step);
  return trades_level(learner, *learner.router, step.router_learning_rate, step.train.balance,
                      batch, attack(1), step, lower.checks);
}

}  // namespace moat::train
