#include "train/evaluation_state.h"

#include <charconv>

#include "engine/io/safetensors.h"
#include "train/run_log.h"

namespace moat::train {

using namespace engine;

EvaluationState::EvaluationState(std::filesystem::path file,
                                 std::map<std::string, std::string> identity)
    : file_(std::move(file)), identity_(std::move(identity)) {}

double EvaluationState::restore(attacks::ProtocolRun& run) {
  if (file_.empty() || !std::filesystem::exists(file_)) return 0;
  const SafeTensors state = read_safetensors(file_);
  for (const auto& [what, ours] : identity_) {
    const auto it = state.metadata.find(what);
    const std::string theirs = it == state.metadata.end() ? "" : it->second;
    require(theirs == ours, [&, what = what] {
      return text("'", file_.string(), "' is the state of an evaluation with another ", what,
                  " and is continued with that alone; choose another eval.dir, or remove the file ",
                  "to begin anew");
    });
  }
  double seconds = 0;
  if (const auto it = state.metadata.find("seconds"); it != state.metadata.end())
    std::from_chars(it->second.data(), it->second.data() + it->second.size(), seconds);
  run.restore(state.tensors);
  return seconds >= 0 ? seconds : 0;
}

void EvaluationState::keep(const attacks::ProtocolRun& run, double seconds) {
  kept_ = std::chrono::steady_clock::now();
  if (file_.empty()) return;
  std::filesystem::create_directories(file_.parent_path());
  SafeTensors state{.tensors = run.state(), .metadata = identity_};
  state.metadata["seconds"] = number_text(seconds);
  write_safetensors(file_, state);
}

void EvaluationState::keep_when_due(const attacks::ProtocolRun& run, double seconds) {
  if (std::chrono::steady_clock::now() - kept_ >= std::chrono::minutes(1)) keep(run, seconds);
}

void EvaluationState::remove() {
  if (!file_.empty()) std::filesystem::remove(file_);
}

}  // namespace moat::train
