#include "engine/ops/elementwise.h"
#include "engine/ops/loss.h"
#include "engine/ops/reduce.h"
#include "engine/tape.h"
#include "train/advmoe.h"
#include "train/objective.h"

namespace moat::train {

using namespace engine;

namespace {

// labels - n · floor(labels / n), by a half that keeps the quotient off the integers.
Tensor modulo(const Tensor& labels, int n) {
  if (!labels.defined()) return labels;
  const Tensor exact = labels.to(Dtype::f32);
  const Tensor quotient = affine(exact, 1.0 / n, 0.5 / n).to(Dtype::i32);
  return sub(exact, scale(quotient.to(Dtype::f32), n)).to(Dtype::i32);
}

}  // namespace

Tensor joint_attack(const Learner& learner, const data::Batch& batch, const StepSettings& step,
                    int round) {
  const NoTapeScope not_recorded;
  attacks::Model model = attack_model(learner);
  const attacks::Gate gate = training_gate(step);
  const attacks::Outputs clean = model.forward(batch.images, gate);
  model.auxiliary = [&learner, scores = clean.scores](const Tensor& images) {
    return kl_divergence(scores, learner.model.scores(images, Mode::eval));
  };
  attacks::Victims victims = victims_of(batch);
  victims.reference = clean.logits;
  return training_pgd(model, victims,
                      {.loss = attacks::Loss::kl_divergence, .gate = gate, .auxiliary = 1}, step,
                      {round});
}

StepReport router_level(Learner& learner, const data::Batch& batch, const Tensor& adversarial,
                        const StepSettings& step, const FiniteChecks& earlier,
                        Divergence divergence) {
  const models::Classifier& model = learner.model;
  Tape tape;
  learner.router->watch(tape);
  const Mode mode = loss_mode(step.train);
  const Tensor clean = model.scores(batch.images, mode), attacked = model.scores(adversarial, mode);
  StepReport out;
  out.checks = earlier;
  for (const Tensor& scores : {clean, attacked})
    out.checks.require_finite(scores, "a router score is not finite");
  data::Batch classes = batch;
  classes.labels = modulo(batch.labels, model.routes());
  classes.other_labels = modulo(batch.other_labels, model.routes());
  out.loss = add(scale(mean_cross_entropy(clean, classes, 0), step.train.router_weight),
                 scale(mean(divergence(clean, attacked)), step.train.beta));
  descend(tape, out.loss, {&*learner.router}, {step.router_learning_rate}, step.train, out.checks);
  return out;
}

StepReport released_advmoe_step(Learner& learner, const data::Batch& batch,
                                const StepSettings& step, Divergence divergence) {
  StepReport out = trades_level(learner, *learner.experts, step.learning_rate, 0, batch,
                                joint_attack(learner, batch, step, 0), step);
  const StepReport upper = router_level(learner, batch, joint_attack(learner, batch, step, 1), step,
                                        out.checks, divergence);
  out.loss = upper.loss;
  out.checks = upper.checks;
  return out;
}

}  // namespace moat::train
