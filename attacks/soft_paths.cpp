#include "attacks/terms.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/loss.h"
#include "engine/ops/shape.h"
#include "engine/tape.h"

namespace moat::attacks {

using namespace engine;

namespace {

// Σ_e weights_e f_e(points).
Tensor mixture(const Model& model, const Tensor& points, const Tensor& weights) {
  const auto n = static_cast<size_t>(points.dim(0));
  Tensor total;
  for (int32_t e = 0; e < model.routes; ++e) {
    const Tensor route = index_of(std::vector<int32_t>(n, e), points.device());
    const Tensor part = mul(model.along(points, route), slice(weights, 1, e, e + 1));
    total = total.defined() ? add(total, part) : part;
  }
  return total;
}

// The value of one with the gradient of the other.
Tensor in_place_of(const Tensor& value, const Tensor& differentiated) {
  return recorded("soft_backward", {differentiated}, value.detached(),
                  [](const Tensors& d, const Needs&) { return d; });
}

}  // namespace

Tensor soft_logits(const Model& model, const Tensor& points, const Victims& v, const Objective& o,
                   const Outputs& own) {
  require(model.along && own.scores.defined(), "a soft path needs a model with routes and scores");
  const Tensor weights = softmax(own.scores);
  const Tensor mixed = mixture(model, o.path == Path::soft_router ? v.images : points,
                               o.gate == Gate::open ? weights : weights.detached());
  return o.path == Path::soft_backward ? in_place_of(own.logits, mixed) : mixed;
}

}  // namespace moat::attacks
