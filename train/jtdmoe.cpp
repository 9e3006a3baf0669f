#include "train/methods.h"
#include "train/objective.h"

namespace moat::train {

using namespace engine;

StepReport jtdmoe_step(Learner& learner, const data::Batch& batch, const StepSettings& step) {
  require(learner.standard && learner.robust, "jtdmoe trains a dual model");
  const StepReport lower = rt_er_step(*learner.robust, batch, step);
  Learner& standard = *learner.standard;
  const auto objective = [&] {
    Terms terms;
    terms.clean = training_pass(standard, batch.images, batch, step);
    const Tensor own = terms.clean.logits;
    const models::Prediction robust =
        learner.robust->forward(batch.images, Mode::eval, models::GateGradient::blocked, nullptr);
    terms.clean.logits = learner.model.average(own, robust.logits);
    terms.loss = mean_cross_entropy(step.train.conditioned ? terms.clean.logits : own, batch,
                                    step.train.label_smoothing);
    return balanced(terms, standard.router ? step.train.balance : 0);
  };
  const StepReport upper = update(standard.groups(), standard.learning_rates(step), batch,
                                  step.train, objective, lower.checks);
  StepReport out = lower;  // the robust model's accuracy and routes
  out.loss = upper.loss;
  out.clean_correct = upper.clean_correct;
  out.checks = upper.checks;
  return out;
}

}  // namespace moat::train
