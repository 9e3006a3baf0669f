#include "train/objective.h"

#include "engine/ops/count.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/loss.h"
#include "engine/ops/reduce.h"
#include "engine/tape.h"

namespace moat::train {

using namespace engine;
using models::GateGradient;

namespace {

void step(FlatParameters& group, double learning_rate, const TrainSettings& settings,
          const Tensor& failures) {
  if (settings.optimizer == "adamw")
    group.step(AdamwOptions{.lr = learning_rate,
                            .beta1 = settings.beta1,
                            .beta2 = settings.beta2,
                            .eps = settings.adam_eps,
                            .weight_decay = settings.weight_decay},
               failures);
  else
    group.step(SgdOptions{.lr = learning_rate,
                          .momentum = settings.momentum,
                          .weight_decay = settings.weight_decay},
               failures);
}

}  // namespace

Tensor mean_cross_entropy(const Tensor& logits, const data::Batch& batch, double smoothing) {
  const Tensor hard = mean(
      batch.is_mixed() ? mixed_cross_entropy(logits, batch.labels, batch.other_labels, batch.weight)
                       : cross_entropy(logits, batch.labels));
  if (smoothing == 0) return hard;
  const Tensor uniform = scale(mean(log_softmax(logits)), -1);
  return add(scale(hard, 1 - smoothing), scale(uniform, smoothing));
}

Tensor balance_loss(const models::Prediction& prediction) {
  const int64_t experts = prediction.scores.dim(1), rows = prediction.scores.dim(0);
  const Tensor counts = bin_count(prediction.experts, to_int(experts)).to(Dtype::f32);
  const Tensor mean_probability = mean(softmax(prediction.scores), 0);
  return scale(sum(mul(mean_probability, scale(counts, 1.0 / static_cast<double>(rows)))),
               static_cast<double>(experts));
}

Mode loss_mode(const TrainSettings& train) {
  return train.batch_norm == "batch" ? Mode::train : Mode::eval;
}

models::Prediction training_pass(const Learner& learner, const Tensor& images,
                                 const data::Batch& batch, const StepSettings& step) {
  const models::GateSeed noise{step.seed, static_cast<uint32_t>(step.epoch), batch.ids};
  return learner.forward(images, loss_mode(step.train), GateGradient::open, &noise);
}

Tensor with_auxiliary(const Tensor& loss, const models::Prediction& prediction) {
  const Tensor& auxiliary = prediction.tokens.auxiliary;
  return auxiliary.defined() ? add(loss, auxiliary) : loss;
}

Terms balanced(Terms terms, double weight) {
  const models::Prediction& p = terms.clean.logits.defined() ? terms.clean : terms.adversarial;
  if (weight > 0) terms.loss = add(terms.loss, scale(balance_loss(p), weight));
  return terms;
}

Terms trades_terms(const Learner& learner, const data::Batch& batch, const Tensor& adversarial,
                   const StepSettings& step) {
  Terms terms;
  terms.clean = training_pass(learner, batch.images, batch, step);
  terms.adversarial = training_pass(learner, adversarial, batch, step);
  const Tensor natural = mean_cross_entropy(terms.clean.logits, batch, step.train.label_smoothing);
  const Tensor robust = mean(kl_divergence(terms.clean.logits, terms.adversarial.logits));
  terms.loss = with_auxiliary(add(natural, scale(robust, step.train.beta)), terms.clean);
  return terms;
}

void descend(Tape& tape, const Tensor& loss, const std::vector<FlatParameters*>& groups,
             const std::vector<double>& learning_rates, const TrainSettings& settings,
             FiniteChecks& checks, PerturbedWeights* perturbed) {
  checks.require_finite(loss, "the loss is not finite");
  const Gradients gradients = tape.gradients(loss);
  for (FlatParameters* group : groups) {
    group->collect(gradients);
    checks.require_finite(*group, group->gradients(), [](const std::string& name) {
      return text("the gradient of ", name, " is not finite");
    });
    if (settings.clip_norm > 0)
      checks.require_finite(group->clip_gradient(settings.clip_norm),
                            "the gradient's norm is not finite in float32");
  }
  const Tensor failures = checks.failures();
  if (perturbed) perturbed->restore();
  for (size_t g = 0; g < groups.size(); ++g)
    step(*groups[g], learning_rates[g], settings, failures);
  for (const FlatParameters* group : groups)
    checks.require_finite(*group, group->values(), [](const std::string& name) {
      return text(name, " left the range of float32 in an update");
    });
}

StepReport update(const std::vector<FlatParameters*>& groups,
                  const std::vector<double>& learning_rates, const data::Batch& batch,
                  const TrainSettings& settings, const std::function<Terms()>& objective,
                  const FiniteChecks& earlier, PerturbedWeights* perturbed) {
  Tape tape;
  for (FlatParameters* group : groups) group->watch(tape);
  const Terms terms = objective();
  StepReport out;
  out.checks = earlier;
  for (const Tensor& scores : {terms.clean.scores, terms.adversarial.scores})
    if (scores.defined()) out.checks.require_finite(scores, "a router score is not finite");
  descend(tape, terms.loss, groups, learning_rates, settings, out.checks, perturbed);
  out.loss = terms.loss;
  if (terms.clean.logits.defined()) out.count_clean(terms.clean, batch.labels);
  if (terms.adversarial.logits.defined()) out.count_robust(terms.adversarial, batch.labels);
  return out;
}

}  // namespace moat::train
