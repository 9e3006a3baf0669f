#include "engine/ops/elementwise.h"
#include "engine/tape.h"
#include "train/methods.h"
#include "train/objective.h"

namespace moat::train {

using namespace engine;

StepReport jtdmoe_step(Learner& learner, const data::Batch& batch, const StepSettings& step) {
  require(learner.standard && learner.robust, "jtdmoe trains a dual model");
  const StepReport lower = rt_er_step(*learner.robust, batch, step);
  Learner& standard = *learner.standard;
  Tape tape;  // born after the robust model's variables, which are constants to it
  const auto groups = standard.groups();
  for (FlatParameters* group : groups) group->watch(tape);
  models::Prediction p = training_pass(standard, batch.images, batch, step);
  const Tensor robust =
      learner.robust->forward(batch.images, Mode::eval, models::GateGradient::blocked, nullptr)
          .logits;
  const Tensor mixture = learner.model.average(p.logits, robust);
  StepReport out = lower;  // the robust model's accuracy and routes
  require_finite_scores(p, out.checks);
  out.loss = mean_cross_entropy(step.train.conditioned ? mixture : p.logits, batch,
                                step.train.label_smoothing);
  if (standard.router && step.train.balance > 0)
    out.loss = add(out.loss, scale(balance_loss(p), step.train.balance));
  descend(tape, out.loss, groups, {step.learning_rate, step.router_learning_rate}, step.train,
          out.checks);
  p.logits = mixture;
  out.count_clean(p, batch.labels);
  return out;
}

}  // namespace moat::train
