#pragma once

#include <nlohmann/json_fwd.hpp>

#include "attacks/nearest.h"

namespace moat::attacks {

// The L2 attack of Carlini & Wagner 2017 (section VI.A): minimises ‖x - image‖₂² + c · max(z_y -
// max_{i≠y} z_i, 0) over w, x = (tanh w + 1) / 2, by Adam, and searches for each image's own c: up
// tenfold while nothing is found, then by bisection.
struct CarliniWagner {
  ThreatModel threat = {.norm = engine::Norm::l2, .eps = 0.5};
  int steps = 1000;  // of each search; the authors take 10 000
  int searches = 9;
  double first_c = 1e-3;
  double learning_rate = 0.01;
  Goal goal = Goal::fool;
  Gate gate = Gate::open;
};

// The nearest misclassified point of each image.
Nearest carlini_wagner_nearest(const Model& model, const Victims& victims,
                               const CarliniWagner& settings);

// An image is fooled when that point, projected on the ball, is misclassified.
AttackResult carlini_wagner(const Model& model, const Victims& victims,
                            const CarliniWagner& settings);

// Forward and backward, for an image that withstands it; an estimate.
int64_t most_passes(const CarliniWagner& settings, int routes);

nlohmann::ordered_json constants_of(const CarliniWagner& settings);

}  // namespace moat::attacks
