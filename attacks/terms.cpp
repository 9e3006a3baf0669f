#include "attacks/terms.h"

#include <limits>

#include "engine/ops/elementwise.h"
#include "engine/ops/loss.h"
#include "engine/ops/reduce.h"
#include "engine/ops/shape.h"
#include "engine/tape.h"

namespace moat::attacks {

using namespace engine;

namespace {

Outputs own_pass(const Model& model, const Tensor& points, const Victims& v, const Objective& o,
                 RandomKey key, int pass) {
  if (!model.randomised) return model.forward(points, o.gate);
  key.purpose = Purpose::gate_noise;
  key.iteration = key.iteration * static_cast<uint32_t>(o.passes) + static_cast<uint32_t>(pass);
  return model.randomised(points, o.gate, v.ids, key);
}

bool is_soft(Path path) { return path != Path::own && path != Path::given; }

}  // namespace

Tensor router_margin(const Outputs& own, const Victims& v, Steer steer) {
  require(own.scores.defined() && v.routes.defined(),
          "climbing the router's margin needs a model with scores, and routes of the victims");
  const Tensor away = margin(own.scores, v.routes);
  return steer == Steer::away ? away : scale(away, -1);
}

Tensor normalized(const Tensor& gradient) {
  const int64_t n = gradient.dim(0);
  const Tensor rows = reshape(gradient, {n, n ? gradient.size() / n : 1});
  const Tensor least =
      Tensor::full({n}, std::numeric_limits<float>::min(), gradient.dtype(), gradient.device());
  const Tensor size = reshape(maximum(mean(abs(rows), 1), least), {n, 1});
  return reshape(div(rows, size), gradient.shape());
}

Tensor value_of(const Terms& terms, const Objective& o) {
  if (o.climbed == Climbed::loss) return terms.loss;
  if (o.climbed == Climbed::router) return terms.router;
  return add(terms.loss, scale(terms.router, o.lambda));
}

Terms pass_of(const Model& model, const TermPoints& points, const Victims& v, const Objective& o,
              const RandomKey& key, int pass, Verdict verdict) {
  Terms terms;
  const auto own = [&](const Tensor& x) {
    const Outputs out = own_pass(model, x, v, o, key, pass);
    terms.logits = out.logits;
    return out;
  };
  if (o.climbed != Climbed::loss) terms.router = router_margin(own(points.router), v, o.steer);
  if (o.climbed == Climbed::router) return terms;
  Tensor climbed;
  if (o.path == Path::given) {
    require(model.along && v.routes.defined(),
            "a given path needs a model with routes, and routes of the victims");
    climbed = model.along(points.loss, v.routes);
    if (verdict == Verdict::wanted && !terms.logits.defined()) {
      const NoTapeScope not_recorded;
      own(points.loss);
    }
  } else {
    const Outputs out = own(points.loss);
    climbed = is_soft(o.path) ? soft_logits(model, points.loss, v, o, out) : out.logits;
  }
  terms.loss = loss_of(o.loss, climbed, v);
  if (o.auxiliary != 0) {
    require(model.auxiliary != nullptr, "climbing auxiliary losses needs a model that has some");
    terms.loss = add(terms.loss, scale(model.auxiliary(points.loss), o.auxiliary));
  }
  return terms;
}

}  // namespace moat::attacks
