#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "train/certify/certificate.h"

namespace moat::train {

// What was certified.
struct CertifiedSubject {
  const models::Classifier& model;
  std::string file, sha256;  // checkpoint
  const data::ImageSet& set;
  std::string protocol;     // of the attack at the same radii; kNoAttack
  std::vector<double> eps;  // of the table
  double seconds = 0;       // that all of it took
};

// A way to prove something, and what it says of this model or why it does not apply.
struct ProofMethod {
  std::string name;
  bool applies;
  std::string says;
};
std::vector<ProofMethod> proof_methods(const models::Classifier& model, RouteRadius route);

// One row per image: index, label, prediction, route, radius, interval, affine, lipschitz,
// route_radius; route columns are empty for a model without hard routes.
void write_radii(const std::filesystem::path& file, const Certification& certification,
                 const data::ImageSet& set);

// Accuracies as fractions, radii in pixels of [0, 1]; `results.curve` has a row per eps.
nlohmann::ordered_json certificate_json(const Certification& certification,
                                        const CertifiedSubject& subject);

}  // namespace moat::train
