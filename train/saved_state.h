#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <map>
#include <string>

#include "engine/tensor.h"

namespace moat::train {

// What an evaluation or a certification has found so far, in a file beside where its result will
// be.
class SavedState {
 public:
  using Tensors = std::map<std::string, engine::Tensor>;

  // `identity`: whose state it is, in words that an error can show: "model" -> its fingerprint. An
  // empty file name: nothing is kept.
  SavedState(std::filesystem::path file, std::map<std::string, std::string> identity);

  // Gives what the file holds to `take`, where there is a file. Throws when it is of another
  // identity, and with what `take` refuses it for.
  void restore(const std::function<void(const Tensors&)>& take);
  void keep(const Tensors& found);
  bool is_due() const;  // a minute after it was kept
  void remove();

  // Spent on this work, here and before the file was kept.
  double seconds() const;

 private:
  using Clock = std::chrono::steady_clock;
  std::filesystem::path file_;
  std::map<std::string, std::string> identity_;
  Clock::time_point start_ = Clock::now(), kept_ = start_;
  double seconds_before_ = 0;
};

}  // namespace moat::train
