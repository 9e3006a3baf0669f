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
    case Loss::dlr:
      return "dlr (below 3 classes the margin)";
    case Loss::dlr_targeted:
      return "dlr-targeted (below 4 classes z_t - z_y)";
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
    case Loss::dlr:
      return logits.dim(1) < 3 ? margin(logits, victims.labels) : dlr(logits, victims.labels);
    case Loss::dlr_targeted:
      return logits.dim(1) < 4 ? targeted_margin(logits, victims.labels, victims.targets)
                               : targeted_dlr(logits, victims.labels, victims.targets);
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
