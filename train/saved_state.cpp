#include "train/saved_state.h"

#include <charconv>
#include <cmath>

#include "engine/io/safetensors.h"
#include "train/run_log.h"

namespace moat::train {

using namespace engine;

namespace {

constexpr const char* kSeconds = "seconds";

std::string entry(const SafeTensors& state, const std::string& key) {
  const auto it = state.metadata.find(key);
  return it == state.metadata.end() ? "" : it->second;
}

// 0 for anything but a time.
double seconds_of(const std::string& given) {
  double seconds = 0;
  std::from_chars(given.data(), given.data() + given.size(), seconds);
  return std::isfinite(seconds) && seconds >= 0 ? seconds : 0;
}

}  // namespace

SavedState::SavedState(std::filesystem::path file, std::map<std::string, std::string> identity)
    : file_(std::move(file)), identity_(std::move(identity)) {}

void SavedState::restore(const std::function<void(const Tensors&)>& take) {
  if (file_.empty() || !std::filesystem::exists(file_)) return;
  try {
    const SafeTensors state = read_safetensors(file_);
    for (const auto& [what, ours] : identity_)
      require(entry(state, what) == ours, [&, what = what] {
        return text("what was begun with another ", what, " goes on with that alone");
      });
    take(state.tensors);
    seconds_before_ = seconds_of(entry(state, kSeconds));
  } catch (const Error& error) {
    throw Error(text(error.what(), "; choose another folder, or remove '", file_.string(),
                     "' to begin anew"));
  }
}

void SavedState::keep(const Tensors& found) {
  kept_ = Clock::now();
  if (file_.empty()) return;
  std::filesystem::create_directories(file_.parent_path());
  SafeTensors state{.tensors = found, .metadata = identity_};
  state.metadata[kSeconds] = number_text(seconds());
  write_safetensors(file_, state);
}

bool SavedState::is_due() const { return Clock::now() - kept_ >= std::chrono::minutes(1); }

void SavedState::remove() {
  if (!file_.empty()) std::filesystem::remove(file_);
}

double SavedState::seconds() const {
  return seconds_before_ + std::chrono::duration<double>(Clock::now() - start_).count();
}

}  // namespace moat::train
