#pragma once

#include "train/certify/certificate.h"
#include "train/evaluate.h"

namespace moat::train {

inline constexpr const char* kNoAttack = "none";

// The attack at the radii of a table of certified accuracies, L∞.
struct RadiiUnderAttack {
  std::string protocol;
  std::vector<double> eps;
  uint64_t seed = 0;
  std::filesystem::path folder = {};  // where its evaluations keep their states; empty: nowhere
  std::function<void(int64_t radii_done, const EvaluationStanding&)> progress = {};
  std::function<bool()> stop_requested = {};  // asked after each batch; then throws
};

// Fills `certification.resisted` from the first eps that is not in it, and keeps it after each. An
// image that is proven to be right at an eps and is not throws: the proof, or the arithmetic of the
// model, is wrong.
void attack_radii(models::Classifier& model, const data::ImageSet& set,
                  const RadiiUnderAttack& radii, SavedState& state, Certification& certification);

}  // namespace moat::train
