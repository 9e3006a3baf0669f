#pragma once

#include <nlohmann/json_fwd.hpp>

#include "attacks/nearest.h"

namespace moat::attacks {

// Fast Adaptive Boundary attack (Croce & Hein 2020): steps to where a plane in place of the
// decision boundary meets the box, drawn towards the image. With targets it is FAB-T, one run
// towards each of the best other classes of the clean logits; without, each step goes to the
// nearest of all boundaries, for a backward pass per other class.
struct Fab {
  ThreatModel threat = {};
  int steps = 100;
  int targets = 9;    // 0: untargeted
  int restarts = 1;   // per target; the first starts from the image, others eps / 2 away from it
  double pull = 0.1;  // α_max
  double overshoot = 1.05;  // η
  double retreat = 0.9;     // β: a misclassified point goes back to image + β (point - image)
  int bisections = 0;       // at the end, between image and nearest point; AutoAttack does none
  Goal goal = Goal::fool;
  Gate gate = Gate::open;
  uint64_t seed = 0;
};

// The nearest misclassified point of each image. eps matters for Goal::fool and restarts alone.
Nearest fab_nearest(const Model& model, const Victims& victims, const Fab& settings);

// An image is fooled when its nearest point, projected on the ball, is misclassified.
AttackResult fab(const Model& model, const Victims& victims, const Fab& settings);

// Forward and backward, for an image that withstands it; an estimate.
int64_t most_passes(const Fab& settings, int routes);

nlohmann::ordered_json constants_of(const Fab& settings);

}  // namespace moat::attacks
