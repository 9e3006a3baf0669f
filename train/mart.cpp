#include "engine/ops/elementwise.h"
#include "engine/ops/loss.h"
#include "engine/ops/reduce.h"
#include "train/joint_step.h"
#include "train/methods.h"

namespace moat::train {

using namespace engine;

namespace {

// A row's value for its label, or for both labels of a mixed image by their weights.
template <class Value>
Tensor by_label(const data::Batch& batch, Value value) {
  const Tensor first = value(batch.labels);
  if (!batch.is_mixed()) return first;
  return add(mul(batch.weight, first), mul(affine(batch.weight, -1, 1), value(batch.other_labels)));
}

// -log(1 + 1e-4 - max_{k ≠ y} p_k) of each row: the margin term of the boosted cross-entropy, with
// the bound of the authors' code.
Tensor runner_up_loss(const Tensor& logits, const Tensor& labels) {
  constexpr double kRoom = 1e-4;
  // log p_k = z_k - log-sum-exp(z) = (z_k - z_y) - CE; logits far apart can round it above 0.
  const Tensor p = exp(sub(margin(logits, labels), cross_entropy(logits, labels)));
  return scale(log(affine(clamp(p, 0, 1), -1, 1 + kRoom)), -1);
}

}  // namespace

Tensor mart_loss(const Tensor& clean, const Tensor& adversarial, const data::Batch& batch,
                 const TrainSettings& settings) {
  const Tensor runner_up =
      by_label(batch, [&](const Tensor& labels) { return runner_up_loss(adversarial, labels); });
  const Tensor right = by_label(
      batch, [&](const Tensor& labels) { return exp(scale(cross_entropy(clean, labels), -1)); });
  const Tensor robust = mul(kl_divergence(clean, adversarial), affine(right, -1, 1));
  return add(add(mean_cross_entropy(adversarial, batch, settings.label_smoothing), mean(runner_up)),
             scale(mean(robust), settings.beta));
}

StepReport mart_step(Learner& learner, const data::Batch& batch, const StepSettings& step) {
  const Tensor adversarial = training_attack(learner, batch, attacks::Loss::cross_entropy, step);
  return joint_step(learner, batch, step, [&] {
    Terms terms;
    terms.clean = training_pass(learner, batch.images, batch, step);
    terms.adversarial = training_pass(learner, adversarial, batch, step);
    terms.loss = with_auxiliary(
        mart_loss(terms.clean.logits, terms.adversarial.logits, batch, step.train), terms.clean);
    return terms;
  });
}

}  // namespace moat::train
