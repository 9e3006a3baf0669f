#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cli/report/certificate.h"
#include "cli/report/csv.h"
#include "cli/report/json_view.h"
#include "train/statistics.h"

namespace moat::cli::report {

struct ClassResult {
  std::string name;
  int64_t n;
  double clean, robust;
};

struct ExpertUse {
  using Counts = std::vector<int64_t>;
  int64_t experts;
  Counts clean, adversarial;                           // [experts] images
  std::vector<Counts> class_clean, class_adversarial;  // [classes][experts] images
  std::optional<double> flip_rate;
};

struct SampleRow {
  int64_t index, label, clean_prediction, adversarial_prediction;
  std::string fooled_by;                   // empty: withstood every attack
  int64_t clean_route, adversarial_route;  // -1: not routed
};

// eval/<protocol>/ of a run.
struct Evaluation {
  std::filesystem::path folder;
  Json report;  // as in the file

  std::string protocol, norm;  // "linf" or "l2"; empty: not in the file
  double eps;                  // NaN: not in the file
  std::string room;            // of a V-MoE's experts: "capacity 1.5, order", "room for all"
  int64_t n;
  double clean, robust;
  train::Interval clean_interval, robust_interval;
  std::vector<std::pair<std::string, double>> alone;  // accuracy under each attack by itself
  std::vector<std::pair<std::string, double>> after;  // under it and all before it
  std::vector<ClassResult> classes;
  std::optional<ExpertUse> experts;
  double seconds;                  // NaN: not in the file
  std::vector<SampleRow> samples;  // in the order of adversarial.safetensors

  std::string ball() const;   // "L∞ 0.1 (25.5/255)"; "–" where it is not in the file
  std::string title() const;  // "sign-40@1, capacity 1.5, order"

  // Accuracy under the attack that differentiates through the gate, or with the gate blocked.
  std::optional<double> gate_open() const;
  std::optional<double> gate_blocked() const;
};

struct Run {
  std::filesystem::path folder;
  std::string name;  // of the folder
  Json config;
  std::string method, model;
  std::string unfinished;   // "unfinished: 25 of 40 epochs"; empty of a run that is over
  double parameters, macs;  // NaN: not in the file; MACs executed per image
  double train_seconds;     // over all epochs recorded; NaN without any
  Csv metrics;
  std::vector<Evaluation> evaluations;  // by name of their folder
  std::optional<Certificate> certificate;
};

// Reads what is there: only config.json must be. Throws one line that names the file.
Run read_run(const std::filesystem::path& folder);

// The smallest share of an expert over the clean images.
std::optional<double> smallest_share(const Evaluation& evaluation);

}  // namespace moat::cli::report
