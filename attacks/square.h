#pragma once

#include <nlohmann/json_fwd.hpp>

#include "attacks/model.h"
#include "attacks/survivors.h"
#include "attacks/threat_model.h"

namespace moat::attacks {

// The Square attack (Andriushchenko et al., ECCV 2020), L∞ and L2: random search that needs no
// gradient. Each query changes one square of the best point so far and keeps the change when the
// margin grows or the image is misclassified.
struct Square {
  ThreatModel threat = {};
  int queries = 5000;  // on top of the one of the start
  double share = 0.8;  // of the pixels, that the first squares cover
  int restarts = 1;
  uint64_t seed = 0;
};

// The share of the pixels that query `number` (from 0) changes: halved after queries 10, 50, 200,
// 500, 1000, 2000, 4000, 6000 and 8000, whatever their total number (the schedule of AutoAttack).
double square_share(double share, int number);

// Side of the square in pixels, for images of height x width: the root of its area, rounded; for L2
// at least 3 and odd where it fits.
int square_side(engine::Norm norm, double share, int height, int width);

// One forward pass per query and image that resists, and one for the start, in each restart. A
// point's number counts those through the restarts, queries + 1 for each. Windows, signs and
// transpositions are drawn for every image by itself, where the reference shares them over a batch.
AttackResult square_attack(const Model& model, const Victims& victims, const Square& settings);

// Forward, for an image that withstands it.
int64_t most_passes(const Square& settings, int routes);

nlohmann::ordered_json constants_of(const Square& settings);

}  // namespace moat::attacks
