#pragma once

#include <nlohmann/json_fwd.hpp>

#include "attacks/nearest.h"

namespace moat::attacks {

// DeepFool (Moosavi-Dezfooli et al. 2016, Algorithm 2, and its extension to L∞): goes to the
// nearest of the planes in place of the decision boundaries and on from there, until the label has
// changed at image + (1 + overshoot) · (all moves), clipped to [0, 1].
struct DeepFool {
  ThreatModel threat = {};
  int steps = 50;
  double overshoot = 0.02;
  int classes = 10;  // the label and the best others of the clean logits
  Gate gate = Gate::open;
};

// The point where each image's label changed.
Nearest deepfool_nearest(const Model& model, const Victims& victims, const DeepFool& settings);

// An image is fooled when that point, projected on the ball, is misclassified.
AttackResult deepfool(const Model& model, const Victims& victims, const DeepFool& settings);

// Forward and backward, for an image that withstands it; an estimate.
int64_t most_passes(const DeepFool& settings, int routes);

nlohmann::ordered_json constants_of(const DeepFool& settings);

}  // namespace moat::attacks
