#pragma once

#include <chrono>
#include <filesystem>
#include <map>
#include <string>

#include "attacks/protocol_run.h"

namespace moat::train {

// What an evaluation has found so far, in a file beside where its report will be.
class EvaluationState {
 public:
  // `identity`: whose state it is, in words that an error can show: "model" -> its fingerprint. An
  // empty file name: nothing is kept.
  EvaluationState(std::filesystem::path file, std::map<std::string, std::string> identity);

  // Continues the run where there is a file; the seconds spent before, 0 without one. Throws when
  // the file is of another identity.
  double restore(attacks::ProtocolRun& run);
  void keep(const attacks::ProtocolRun& run, double seconds);
  void keep_when_due(const attacks::ProtocolRun& run, double seconds);  // at most once a minute
  void remove();

 private:
  std::filesystem::path file_;
  std::map<std::string, std::string> identity_;
  std::chrono::steady_clock::time_point kept_ = std::chrono::steady_clock::now();
};

}  // namespace moat::train
