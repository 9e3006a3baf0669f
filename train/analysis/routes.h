#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "attacks/threat_model.h"
#include "data/image_set.h"
#include "models/classifier.h"

namespace moat::train {

// What a model's gates do, clean and under attack, and what hangs on it.

struct AnalysisSettings {
  attacks::ThreatModel threat;
  int steps = 20;     // of PGD, each eps / 4
  int batch = 256;    // images at a time
  int jacobian = 32;  // images whose Jacobian is taken, a pass with gradient per class each
  uint64_t seed = 0;
};

// What there is besides of a gate of tokens.
struct TokenMoves {
  // Mean intersection over union with the clean set of the experts chosen, whether or not they
  // found room.
  double overlap = 1;
  // Share of tokens whose first choice is another one than clean; of class tokens, which are all
  // that logits depend on behind a net's last block.
  double first = 0, first_of_class = 0;
  double margin = 0;  // of the last choice's logit over the next one's, mean; +inf without a next
};

// Where one gate sends images, or their tokens.
struct GateUse {
  std::string name;          // "router", or "gate 1" of a net with token gates
  std::vector<int64_t> use;  // [experts] images, or choices of tokens that found room
  int64_t dropped = 0;       // choices of tokens that found none
  double entropy = 0;        // of the use, 1 being even
  double flipped = 0;        // share of images, or tokens, whose set of experts is another
                             // one than at the clean images
  double overlap = 1;        // mean intersection over union with the clean set
  std::vector<std::vector<int64_t>>
      moved;  // [experts clean][experts now] images; of a router alone
  std::optional<TokenMoves> tokens;
};

// The images as they are, or what something made of them.
struct Condition {
  std::string name;  // "clean", "noise", "pgd through", "pgd blocked", "router attacked"
  int64_t correct = 0;
  std::vector<GateUse> gates;
};

// How far away another route is, of a model that routes images: gap of the two largest scores, and
// the first-order distance |gap| / ‖gradient of the gap‖ in the threat's dual norm (exact for a
// linear router inside the box), per image, ascending.
struct Margins {
  std::vector<double> gaps, distances;
};

struct RouteAnalysis {
  int64_t images = 0;
  std::vector<Condition> conditions;
  Margins margins;  // empty of a model that routes no images
};

// Throws for a model without gates.
RouteAnalysis analyse_routes(const models::Classifier& model, const data::ImageSet& set,
                             const AnalysisSettings& settings);

// What each expert is worth (V-MoE, Riquelme et al. 2021; Puigcerver et al. 2022), by clean
// accuracy: correct images of
struct ExpertTests {
  std::vector<int64_t> alone;    // all images through one expert
  std::vector<int64_t> dropped;  // the images of one expert going to their second
  int64_t swapped = 0;           // every image going to its second
  int64_t random = 0;            // every image to a random expert
  // At the image: ‖f_first - f_second‖_2, and it times the first one's weight softmax(scores);
  // means.
  double jump = 0, weighted_jump = 0;
};
// Throws for a model that does not route images.
ExpertTests test_experts(const models::Classifier& model, const data::ImageSet& set,
                         const AnalysisSettings& settings);

// Frobenius norm of the logits' Jacobian by pixels, mean over images: with the router's gradient
// through the gate, and along the frozen route; of a net that routes tokens along their choices
// and weights. Throws for a model without gates.
struct JacobianNorms {
  int64_t images = 0;
  double free = 0;
  std::optional<double> frozen;  // nothing of a soft gate, which has no one route
};
JacobianNorms jacobian_norms(const models::Classifier& model, const data::ImageSet& set,
                             const AnalysisSettings& settings);

// The robust accuracy of the whole and of its parts, correct images under PGD of the settings.
struct ComponentRobustness {
  int64_t whole = 0;  // attacked through the gate and with it blocked
  // RA-E and RA-R with the other part frozen at the clean image; nothing of a soft gate.
  std::optional<int64_t> experts, router;
  int64_t experts_true = 0, router_true = 0;  // the same attacks, judged by the model as it is
  int64_t joint = 0;                          // loss and router's margin climbed together
};
// Throws for a model that does not route images.
ComponentRobustness component_robustness(const models::Classifier& model, const data::ImageSet& set,
                                         const AnalysisSettings& settings);

// As a document: shares and fractions for programs.
nlohmann::ordered_json to_json(const RouteAnalysis& analysis);
nlohmann::ordered_json to_json(const ExpertTests& tests, int64_t images);
nlohmann::ordered_json to_json(const JacobianNorms& norms);
nlohmann::ordered_json to_json(const ComponentRobustness& robust, int64_t images);

}  // namespace moat::train
