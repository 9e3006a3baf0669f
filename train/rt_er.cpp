#include "train/rt_er.h"

#include "engine/ops/elementwise.h"
#include "engine/ops/loss.h"
#include "engine/ops/moe.h"
#include "engine/ops/reduce.h"
#include "engine/tape.h"
#include "train/methods.h"
#include "train/objective.h"

namespace moat::train {

using namespace engine;

Tensor second_experts(const Tensor& scores) {
  const NoTapeScope not_recorded;
  const Tensor best_two = topk_gate(scores, 2, GateForm::softmax_topk).experts;
  return best_two.sliced(1, 1, 2).contiguous().reshaped({scores.dim(0)});
}

RtErExamples rt_er_attacks(const Learner& learner, const data::Batch& batch,
                           const StepSettings& step) {
  const NoTapeScope not_recorded;
  RtErExamples out;
  out.mixture = training_attack(learner, batch, attacks::Loss::cross_entropy, step);
  if (step.train.kl_experts == "second") {
    out.experts = {second_experts(learner.model.scores(batch.images, Mode::eval))};
  } else {
    for (int e = 0; e < learner.model.routes(); ++e)
      out.experts.push_back(Tensor::full({batch.size()}, e, Dtype::i32, batch.images.device()));
  }
  for (const Tensor& experts : out.experts)
    out.along.push_back(training_attack_along(learner, batch, experts, step,
                                              static_cast<uint32_t>(out.along.size() + 1)));
  return out;
}

RtErTerms rt_er_terms(const Learner& learner, const data::Batch& batch,
                      const RtErExamples& examples, const StepSettings& step) {
  const Mode mode = loss_mode(step.train);
  RtErTerms terms;
  terms.adversarial = training_pass(learner, examples.mixture, batch, step);
  terms.loss = mean_cross_entropy(terms.adversarial.logits, batch, step.train.label_smoothing);
  for (size_t i = 0; i < examples.experts.size(); ++i) {
    const Tensor& experts = examples.experts[i];
    const Tensor divergence =
        mean(kl_divergence(learner.model.forward_along(batch.images, experts, mode),
                           learner.model.forward_along(examples.along[i], experts, mode)));
    terms.loss = add(terms.loss, scale(divergence, step.train.beta));
  }
  return terms;
}

StepReport rt_er_step(Learner& learner, const data::Batch& batch, const StepSettings& step) {
  require(learner.model.settings().experts > 1,
          "rt-er trains a mixture of experts: model.name must be one, see `moat models`");
  const RtErExamples examples = rt_er_attacks(learner, batch, step);
  Tape tape;
  const auto groups = learner.groups();
  for (FlatParameters* group : groups) group->watch(tape);
  const RtErTerms terms = rt_er_terms(learner, batch, examples, step);
  StepReport out;
  require_finite_scores(terms.adversarial, out.checks);
  Tensor loss = terms.loss;
  if (learner.router && step.train.balance > 0)
    loss = add(loss, scale(balance_loss(terms.adversarial), step.train.balance));
  descend(tape, loss, groups, {step.learning_rate, step.router_learning_rate}, step.train,
          out.checks);
  out.loss = loss;
  out.count_robust(terms.adversarial, batch.labels);
  return out;
}

}  // namespace moat::train
