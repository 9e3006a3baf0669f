#pragma once

#include <nlohmann/json_fwd.hpp>

#include "attacks/model.h"
#include "attacks/survivors.h"
#include "attacks/threat_model.h"

namespace moat::attacks {

// Random points, which an attack with a gradient has to beat: first uniform in the ball, then as
// far out as it goes (L∞: corners of ball ∩ box, L2: the sphere, clipped).
struct Noise {
  ThreatModel threat = {};
  int uniform_draws = 50, extreme_draws = 50;
  uint64_t seed = 0;
};

// The first misclassified point, else that of the largest margin; one forward pass a draw and image
// that resists.
AttackResult noise(const Model& model, const Victims& victims, const Noise& settings);

// Forward, for an image that withstands it.
int64_t most_passes(const Noise& settings, int routes);

nlohmann::ordered_json constants_of(const Noise& settings);

}  // namespace moat::attacks
