#include "train/rt_er.h"

#include <utility>

#include "engine/ops/elementwise.h"
#include "engine/ops/loss.h"
#include "engine/ops/moe.h"
#include "engine/ops/reduce.h"
#include "engine/ops/shape.h"
#include "engine/tape.h"
#include "train/joint_step.h"
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

namespace {

struct Passes {
  models::Prediction mixture;
  std::vector<std::pair<Tensor, Tensor>> along;  // logits of the images, and of them attacked
};

// All in one pass, so that norms have one population: the batches of the mixture and of the KL
// terms hold other images, and with statistics for each a net learns what it cannot do with the
// running ones. The gate is open for the mixture and 1 for the others.
Passes passes_together(const models::Classifier& model, const data::Batch& batch,
                       const RtErExamples& examples, Mode mode) {
  Passes out;
  models::Prediction& p = out.mixture;
  p.scores = model.scores(examples.mixture, mode);
  p.experts = argmax(p.scores.detached(), 1);
  const Tensor gate = straight_through_gate(p.scores, p.experts, model.settings().gate);
  const Tensor ones = Tensor::full(gate.shape(), 1, gate.dtype(), gate.device());
  Tensors images{examples.mixture}, experts{p.experts}, gates{gate};
  for (size_t i = 0; i < examples.experts.size(); ++i)
    for (const Tensor& seen : {batch.images, examples.along[i]}) {
      images.push_back(seen);
      experts.push_back(examples.experts[i]);
      gates.push_back(ones);
    }
  const Tensor logits =
      model.forward_along(concat(images, 0), concat(experts, 0), mode, concat(gates, 0));
  const int64_t n = batch.size();
  const auto part = [&](int64_t k) { return slice(logits, 0, k * n, (k + 1) * n); };
  p.logits = part(0);
  for (int64_t k = 1; k < std::ssize(images); k += 2) out.along.emplace_back(part(k), part(k + 1));
  return out;
}

// The weights of several experts an image are those of its whole pass.
Passes passes_apart(const Learner& learner, const data::Batch& batch, const RtErExamples& examples,
                    const StepSettings& step) {
  const Mode mode = loss_mode(step.train);
  Passes out{training_pass(learner, examples.mixture, batch, step), {}};
  for (size_t i = 0; i < examples.experts.size(); ++i)
    out.along.emplace_back(
        learner.model.forward_along(batch.images, examples.experts[i], mode),
        learner.model.forward_along(examples.along[i], examples.experts[i], mode));
  return out;
}

}  // namespace

Terms rt_er_terms(const Learner& learner, const data::Batch& batch, const RtErExamples& examples,
                  const StepSettings& step) {
  const Passes passes = learner.model.settings().active == 1
                            ? passes_together(learner.model, batch, examples, loss_mode(step.train))
                            : passes_apart(learner, batch, examples, step);
  Terms terms;
  terms.adversarial = passes.mixture;
  terms.loss = mean_cross_entropy(passes.mixture.logits, batch, step.train.label_smoothing);
  for (const auto& [clean, attacked] : passes.along)
    terms.loss = add(terms.loss, scale(mean(kl_divergence(clean, attacked)), step.train.beta));
  return terms;
}

StepReport rt_er_step(Learner& learner, const data::Batch& batch, const StepSettings& step) {
  require(learner.model.settings().experts > 1,
          "rt-er trains a mixture of experts: model.name must be one, see `moat models`");
  const RtErExamples examples = rt_er_attacks(learner, batch, step);
  return joint_step(learner, batch, step,
                    [&] { return rt_er_terms(learner, batch, examples, step); });
}

}  // namespace moat::train
