#include "attacks/objective.h"

#include "engine/ops/loss.h"
#include "engine/ops/reduce.h"
#include "engine/tape.h"

namespace moat::attacks {

using namespace engine;

const char* name_of(Loss loss) {
  switch (loss) {
    case Loss::cross_entropy:
      return "cross-entropy";
    case Loss::margin:
      return "margin";
    case Loss::kl_divergence:
      return "kl-divergence";
  }
  return "unknown";
}

Tensor loss_of(Loss loss, const Tensor& logits, const Victims& victims) {
  switch (loss) {
    case Loss::cross_entropy:
      return victims.weight.defined()
                 ? mixed_cross_entropy(logits, victims.labels, victims.other_labels, victims.weight)
                 : cross_entropy(logits, victims.labels);
    case Loss::margin:
      return margin(logits, victims.labels);
    case Loss::kl_divergence:
      require(victims.reference.defined(), "the KL attack needs the clean logits as reference");
      return kl_divergence(victims.reference, logits);
  }
  throw Error("unknown attack loss");
}

Probe with_gradient(const Model& model, const Tensor& points, const Victims& v,
                    const Objective& objective) {
  Tape tape;
  const Tensor pixels = tape.watch(points);
  const Tensor logits = model.forward(pixels, objective.gate).logits;
  const Tensor loss = loss_of(objective.loss, logits, v);
  const Tensor ones = Tensor::full(loss.shape(), 1, loss.dtype(), loss.device());
  const Tensor gradient = tape.gradients(loss, ones).of(pixels);
  return {argmax(logits, 1), loss,
          gradient.defined() ? gradient
                             : Tensor::zeros(points.shape(), points.dtype(), points.device())};
}

Probe without_gradient(const Model& model, const Tensor& points, const Victims& v,
                       const Objective& objective) {
  const NoTapeScope not_recorded;
  const Tensor logits = model.forward(points, objective.gate).logits;
  return {argmax(logits, 1), loss_of(objective.loss, logits, v), {}};
}

}  // namespace moat::attacks
