#include "attacks/objective.h"

#include <nlohmann/json.hpp>

#include "attacks/look_cost.h"
#include "attacks/terms.h"
#include "engine/ops/elementwise.h"
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

const char* name_of(Path path) {
  switch (path) {
    case Path::own:
      return "own";
    case Path::given:
      return "given";
    case Path::soft:
      return "soft";
    case Path::soft_backward:
      return "own, soft backward";
    case Path::soft_router:
      return "soft, experts at the image";
  }
  return "unknown";
}

const char* name_of(Climbed climbed) {
  switch (climbed) {
    case Climbed::loss:
      return "loss";
    case Climbed::router:
      return "router";
    case Climbed::both:
      return "loss + lambda router";
  }
  return "unknown";
}

const char* name_of(Steer steer) { return steer == Steer::away ? "away" : "towards"; }

nlohmann::ordered_json constants_of(const Objective& o) {
  nlohmann::ordered_json json{{"gate", name_of(o.gate)}};
  if (o.climbed != Climbed::router) {
    json["loss"] = name_of(o.loss);
    json["path"] = name_of(o.path);
    if (o.auxiliary != 0) json["auxiliary"] = o.auxiliary;
  }
  if (o.climbed != Climbed::loss) {
    json["climbed"] = name_of(o.climbed);
    json["steer"] = name_of(o.steer);
  }
  if (o.climbed == Climbed::both) json["lambda"] = o.lambda;
  if (o.samples > 0) {
    json["samples"] = o.samples;
    json["sigma"] = o.sigma;
  }
  if (o.passes > 1) json["passes"] = o.passes;
  return json;
}

namespace {

constexpr Tensor Terms::*kParts[] = {&Terms::logits, &Terms::loss, &Terms::router, &Terms::d_loss,
                                     &Terms::d_router};

// The mean of the passes; `pass` makes one.
template <class Pass>
Terms mean_of(int passes, const Pass& pass) {
  require(passes >= 1, [&] { return text("passes must be at least 1, got ", passes); });
  Terms total = pass(0);
  for (int p = 1; p < passes; ++p) {
    const Terms next = pass(p);
    for (const auto part : kParts)
      if ((next.*part).defined()) total.*part = add(total.*part, next.*part);
  }
  if (passes > 1)
    for (const auto part : kParts)
      if ((total.*part).defined()) total.*part = scale(total.*part, 1.0 / passes);
  return total;
}

Tensor zero_if_undefined(const Tensor& gradient, const Tensor& like) {
  return gradient.defined() ? gradient : Tensor::zeros(like.shape(), like.dtype(), like.device());
}

Terms differentiated_pass(const Model& model, const Tensor& points, const Victims& v,
                          const Objective& o, const RandomKey& key, int pass) {
  Tape tape;
  const TermPoints watched{tape.watch(points), tape.watch(points)};
  Terms terms = pass_of(model, watched, v, o, key, pass, Verdict::wanted);
  const Tensor total = o.climbed == Climbed::both     ? add(terms.loss, terms.router)
                       : o.climbed == Climbed::router ? terms.router
                                                      : terms.loss;
  const Tensor ones = Tensor::full(total.shape(), 1, total.dtype(), total.device());
  const Gradients gradients = tape.gradients(total, ones);
  if (terms.loss.defined()) terms.d_loss = zero_if_undefined(gradients.of(watched.loss), points);
  if (terms.router.defined())
    terms.d_router = zero_if_undefined(gradients.of(watched.router), points);
  return terms;
}

Tensor direction_of(const Terms& terms, const Objective& o) {
  if (o.climbed == Climbed::loss) return terms.d_loss;
  if (o.climbed == Climbed::router) return terms.d_router;
  return add(normalized(terms.d_loss), scale(normalized(terms.d_router), o.lambda));
}

Terms plain_look(const Model& model, const Tensor& points, const Victims& v, const Objective& o,
                 const RandomKey& key) {
  return mean_of(o.passes, [&](int pass) {
    return pass_of(model, {points, points}, v, o, key, pass, Verdict::wanted);
  });
}

Probe probe_of(const Terms& terms, const Objective& o, const Tensor& gradient, const LookCost& cost,
               int64_t images) {
  return {.predicted = argmax(terms.logits, 1),
          .loss = value_of(terms, o),
          .gradient = gradient,
          .forwards = images * cost.forwards,
          .backwards = images * cost.backwards};
}

}  // namespace

Probe with_gradient(const Model& model, const Tensor& points, const Victims& v, const Objective& o,
                    const RandomKey& key) {
  const NoTapeScope not_recorded;  // but by the tapes of the passes
  const LookCost cost = cost_with_gradient(o, model.routes);
  if (o.samples > 0) {
    const Terms terms = plain_look(model, points, v, o, key);
    return probe_of(terms, o, smoothed_gradient(model, points, v, o, key), cost, v.size());
  }
  const Terms terms = mean_of(
      o.passes, [&](int pass) { return differentiated_pass(model, points, v, o, key, pass); });
  return probe_of(terms, o, direction_of(terms, o), cost, v.size());
}

Probe without_gradient(const Model& model, const Tensor& points, const Victims& v,
                       const Objective& o, const RandomKey& key) {
  const NoTapeScope not_recorded;
  return probe_of(plain_look(model, points, v, o, key), o, {},
                  cost_without_gradient(o, model.routes), v.size());
}

}  // namespace moat::attacks
