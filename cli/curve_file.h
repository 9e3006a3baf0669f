#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>

namespace moat::cli {

// A JSON document that grows point by point and is written after each, so that a command that was
// killed goes on from there.
class CurveFile {
 public:
  // `about`: everything that decides the points. Throws when the file holds a finished curve or one
  // about something else, and when there is none in a folder that holds other files.
  CurveFile(std::filesystem::path file, nlohmann::ordered_json about);

  // Of the evaluation that is going on.
  std::filesystem::path state() const;

  void add(nlohmann::ordered_json point);
  void finish();

  const nlohmann::ordered_json& document() const { return document_; }
  const nlohmann::ordered_json& points() const { return document_["curve"]; }

 private:
  void write() const;
  std::filesystem::path file_;
  nlohmann::ordered_json document_;
};

// {"clean_correct", "robust_correct", "clean", "robust", "ci95"}: accuracies with their Wilson
// intervals.
nlohmann::ordered_json accuracies_json(int64_t clean_correct, int64_t robust_correct, int64_t n);

}  // namespace moat::cli
