#include "attacks/victims.h"

#include "attacks/model.h"
#include "attacks/threat_model.h"
#include "engine/ops/loss.h"
#include "engine/ops/shape.h"

namespace moat::attacks {

using namespace engine;

Tensor index_of(const std::vector<int32_t>& rows, Device device) {
  return Tensor::from(rows, {static_cast<int64_t>(rows.size())}, device);
}

Victims Victims::rows(const std::vector<int32_t>& index) const {
  const Tensor at = index_of(index, images.device());
  return {gather_rows(images, at), gather_rows(labels, at), gather_rows(ids, at),
          reference.defined() ? gather_rows(reference, at) : Tensor{}};
}

const char* name_of(Norm norm) { return norm == Norm::linf ? "linf" : "l2"; }
const char* name_of(Gate gate) { return gate == Gate::open ? "through" : "blocked"; }

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
      return cross_entropy(logits, victims.labels);
    case Loss::margin:
      return margin(logits, victims.labels);
    case Loss::kl_divergence:
      require(victims.reference.defined(), "the KL attack needs the clean logits as reference");
      return kl_divergence(victims.reference, logits);
  }
  throw Error("unknown attack loss");
}

}  // namespace moat::attacks
