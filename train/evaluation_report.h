#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

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
};

// report.json: protocol with every constant, accuracies as fractions with Wilson intervals, the
// accuracy under each attack alone, per class, the routes, the cost, and how it was re-verified.
nlohmann::ordered_json evaluation_report(const Evaluation& evaluation,
                                         const EvaluationSubject& subject);

// Writes report.json, per_sample.csv, adversarial.safetensors (the first images, clean and
// attacked, NCHW) and gallery.png (rows: clean, adversarial, difference around gray) into `folder`.
void write_evaluation(const Evaluation& evaluation, const EvaluationSubject& subject,
                      const std::filesystem::path& folder);

}  // namespace moat::train
