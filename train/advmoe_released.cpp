#include "engine/ops/elementwise.h"
#include "engine/ops/loss.h"
#include "engine/ops/reduce.h"
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
  const auto objective = [&] {
    const models::Classifier& model = learner.model;
    const Mode mode = loss_mode(step.train);
    Terms terms;
    const Tensor clean = terms.clean.scores = model.scores(batch.images, mode),
                 attacked = terms.adversarial.scores = model.scores(adversarial, mode);
    data::Batch classes = batch;
    classes.labels = modulo(batch.labels, model.routes());
    classes.other_labels = modulo(batch.other_labels, model.routes());
    terms.loss = add(scale(mean_cross_entropy(clean, classes, 0), step.train.router_weight),
                     scale(mean(divergence(clean, attacked)), step.train.beta));
    return terms;
  };
  return update({&*learner.router}, {step.router_learning_rate}, batch, step.train, objective,
                earlier);
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
