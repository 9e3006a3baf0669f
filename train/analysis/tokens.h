#pragma once

#include <optional>
#include <string>
#include <vector>

#include "train/analysis/routes.h"

namespace moat::train {

// What the choices of a net that routes tokens are worth (V-MoE, Riquelme et al. 2021; Puigcerver
// et al. 2022): accuracy with those of one layer replaced, or of all layers at once.

// Correct images: those of the set, and the examples that PGD through the gate found against the
// model as it is, not against the one whose choices are replaced.
struct Correct {
  int64_t clean = 0, attacked = 0;
};

// A replaced choice has the weight of the one in its place, 0 where that found no room, so that
// what is told apart is experts and not weights.
struct LayerTests {
  std::string name;      // "gate 1", or "all"
  Correct dropped = {};  // no expert computes, tokens are what the rest of the block makes of them
  Correct next = {};     // the experts ranked behind: k places, or as many as there are
  Correct random = {};   // as many different ones, drawn for each token by its image's id
  // Replayed, clean images along what the attacked ones chose, attacked along what the clean did:
  Correct choices = {};  // each expert with the weight that the image itself gives it
  Correct routes = {};   // with the other image's weights
  // ‖change of the logits‖_2, mean over images, as the token nearest to another choice takes the
  // (k+1)-th expert in place of its k-th, at the weight of that: at its boundary the two weights
  // are the same, and this is how far the logits jump. Of the tokens that logits depend on: in the
  // net's last block that is the class token alone. Nothing of all layers, and without a next.
  std::optional<double> jump = {};
};

struct TokenTests {
  Correct as_it_is;
  std::vector<LayerTests> layers;  // and all of them at once, of several
};

// Throws for a model that does not route tokens.
TokenTests test_tokens(const models::Classifier& model, const data::ImageSet& set,
                       const AnalysisSettings& settings);

// Intersection over union of two sets of `active` of the experts, mean over all pairs of sets: what
// choices have in common that have nothing to do with each other.
double chance_overlap(int experts, int active);

nlohmann::ordered_json to_json(const TokenTests& tests, int64_t images);

}  // namespace moat::train
