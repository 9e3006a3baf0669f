#include <utility>

#include "engine/ops/elementwise.h"
#include "engine/tape.h"
#include "train/methods.h"
#include "train/objective.h"

namespace moat::train {

using namespace engine;

namespace {
// Cross-entropy (and balance) on the given images; every parameter moves.
StepReport supervised_step(Learner& learner, const Tensor& images, const data::Batch& batch,
                           const StepSettings& step) {
  Tape tape;
  const auto groups = learner.groups();
  for (FlatParameters* group : groups) group->watch(tape);
  const models::Prediction p = training_pass(learner, images, batch, step);
  StepReport out;
  require_finite_scores(p, out.checks);
  Tensor loss = with_auxiliary(mean_cross_entropy(p.logits, batch, step.train.label_smoothing), p);
  if (learner.router && step.train.balance > 0)
    loss = add(loss, scale(balance_loss(p), step.train.balance));
  descend(tape, loss, groups, {step.learning_rate, step.router_learning_rate}, step.train,
          out.checks);
  out.loss = loss;
  out.count_robust(p, batch.labels);
  return out;
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
