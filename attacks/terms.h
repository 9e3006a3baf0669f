#pragma once

#include "attacks/objective.h"

namespace moat::attacks {

// What the passes of a look give, per term of the objective.
struct Terms {
  engine::Tensor logits;            // of the model as it is; undefined where no verdict is wanted
  engine::Tensor loss, router;      // float32 [n]; undefined where it is not climbed
  engine::Tensor d_loss, d_router;  // like the points; undefined without a gradient
};

// The points as each term sees them: a variable for each, so that one sweep gives both gradients.
struct TermPoints {
  engine::Tensor loss, router;
};

enum class Verdict { wanted, unwanted };

// One pass, number `pass` of the look: logits, loss and router's margin; recorded on the active
// tape.
Terms pass_of(const Model& model, const TermPoints& points, const Victims& victims,
              const Objective& objective, const engine::RandomKey& key, int pass, Verdict verdict);

// The logits of a soft path, from the scores [n, routes] of the model's own pass and its logits.
// Calls the model once per route.
engine::Tensor soft_logits(const Model& model, const engine::Tensor& points, const Victims& victims,
                           const Objective& objective, const Outputs& own);

// The margin of the scores that `steer` names, [n].
engine::Tensor router_margin(const Outputs& own, const Victims& victims, Steer steer);

// Each image's gradient divided by the mean of its absolute values; 0 stays 0.
engine::Tensor normalized(const engine::Tensor& gradient);

// The value that is climbed.
engine::Tensor value_of(const Terms& terms, const Objective& objective);

// The estimate of Objective::samples at the points.
engine::Tensor smoothed_gradient(const Model& model, const engine::Tensor& points,
                                 const Victims& victims, const Objective& objective,
                                 const engine::RandomKey& key);

}  // namespace moat::attacks
