#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

namespace moat::cli {

// Clean and robust accuracy of a dual model for each weight of its robust part: mix.json in a
// folder, written after each weight, so that a command that was killed goes on from there.
class MixCurve {
 public:
  // `about`: everything that decides the numbers. Throws when the folder holds a finished curve, or
  // one about something else.
  MixCurve(const std::filesystem::path& folder, nlohmann::ordered_json about);

  static constexpr const char* kState = "state.safetensors";  // of the evaluation that is going on

  void add(double alpha, int64_t clean_correct, int64_t robust_correct, int64_t images);
  void finish();

  const nlohmann::ordered_json& document() const { return document_; }
  const nlohmann::ordered_json& rows() const { return document_["curve"]; }
  std::string chart(const std::string& title) const;  // an SVG file
  std::string table(int64_t images, const std::string& protocol) const;

 private:
  void write() const;
  std::filesystem::path file_;
  nlohmann::ordered_json document_;
};

}  // namespace moat::cli
