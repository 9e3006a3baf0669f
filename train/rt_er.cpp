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

// All in one pass, so that the norms of an expert have one population: its batches of the mixture
// and of the KL terms hold other images, and with statistics for each the expert learns what it
// cannot do with the running ones. The gate of a network is a factor of its logits.
Passes passes_together(const models::Classifier& model, const data::Batch& batch,
                       const RtErExamples& examples, Mode mode) {
  Passes out;
  models::Prediction& p = out.mixture;
  p.scores = model.scores(examples.mixture, mode);
  p.experts = argmax(p.scores.detached(), 1);
  Tensors images{examples.mixture}, experts{p.experts};
  for (size_t i = 0; i < examples.experts.size(); ++i)
    for (const Tensor& seen : {batch.images, examples.along[i]}) {
      images.push_back(seen);
      experts.push_back(examples.experts[i]);
    }
  const Tensor logits = model.forward_along(concat(images, 0), concat(experts, 0), mode);
  const int64_t n = batch.size();
  const auto part = [&](int64_t k) { return slice(logits, 0, k * n, (k + 1) * n); };
  const Tensor gate = straight_through_gate(p.scores, p.experts, model.settings().gate);
  p.logits = mul(part(0), reshape(gate, {n, 1}));
  for (int64_t k = 1; k < std::ssize(images); k += 2) out.along.emplace_back(part(k), part(k + 1));
  return out;
}

// The gates of convolutions, and weights of several experts, are inside the net; its norms are
// shared by the experts.
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
  const models::ClassifierSettings& s = learner.model.settings();
  const bool are_networks = s.experts_are == models::Experts::networks && s.active == 1;
  const Passes passes = are_networks
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
