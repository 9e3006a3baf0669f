#pragma once

#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "attacks/objective.h"
#include "attacks/survivors.h"
#include "attacks/threat_model.h"

namespace moat::attacks {

// Auto-PGD (Croce & Hein 2020, algorithm 1): momentum, a first step of 2 eps and, per image, steps
// that are halved at checkpoints where the loss has stopped rising, with a jump back to the best
// point. Losses are compared in the order of the looks, as AutoAttack's code does. APGD-CE and
// APGD-DLR are its losses; with targets it is APGD-T (section 4): a run on the survivors for each
// of the classes with the second, third, … largest clean logit, on Loss::dlr_targeted.
struct Apgd {
  ThreatModel threat = {};
  int steps = 100;
  int restarts = 1;  // of each target, if there are any
  Objective objective = {};
  double rho = 0.75;  // share of a window's looks that must rise
  int targets = 0;    // 0: untargeted; 9 in AutoAttack; at most classes - 1 are used
  uint64_t seed = 0;
};

// The numbers of steps, at most `steps`, after which steps may be halved: the first window is 22 %
// of the steps, each one 3 % shorter than the one before, down to 6 % (rounded down, at least 1).
std::vector<int> apgd_checkpoints(int steps);

// An image costs steps + 1 forward and steps backward passes in each run, and a forward pass where
// there are targets. Fooled images leave the batch; what happens to an image depends on the image,
// its id and the seed alone.
AttackResult apgd(const Model& model, const Victims& victims, const Apgd& settings);

// Forward and backward, for an image that withstands it; an estimate.
int64_t most_passes(const Apgd& settings, int routes);

nlohmann::ordered_json constants_of(const Apgd& settings);

}  // namespace moat::attacks
