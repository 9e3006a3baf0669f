#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "attacks/checks/checks.h"
#include "train/evaluate.h"

namespace moat::train {

// What an evaluation was run on.
struct EvaluationSubject {
  models::Classifier& model;
  std::string file;         // checkpoint
  std::string sha256;       // of its bytes
  std::string selected_on;  // which split chose the checkpoint: "none" for the last epoch
  const data::ImageSet& set;
  attacks::ThreatModel threat;
  int batch;
  int checks;     // images that checks of the evaluation look at; 0: none
  uint64_t seed;  // of their draws
};

// Writes report.json, per_sample.csv, adversarial.safetensors (the first images, clean and
// attacked, NCHW) and gallery.png (rows: clean, adversarial, difference around gray) into `folder`;
// returns the report: protocol with every constant, accuracies as fractions with Wilson intervals,
// the accuracy under each attack, per class, the routes, the cost, and what the stored images are
// when they are read back and predicted anew. `progress` is told of the checks and may throw to end
// them, which leaves no report.
nlohmann::ordered_json write_evaluation(const Evaluation& evaluation,
                                        const EvaluationSubject& subject,
                                        const std::filesystem::path& folder,
                                        const attacks::ChecksProgress& progress = {});

}  // namespace moat::train
