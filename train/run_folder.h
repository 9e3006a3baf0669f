#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <utility>

#include "train/config.h"
#include "train/run_state.h"

namespace moat::train {

// Paths of one run.
class RunFolder {
 public:
  explicit RunFolder(std::filesystem::path root) : root_(std::move(root)) {}
  const std::filesystem::path& root() const { return root_; }
  std::filesystem::path config() const { return root_ / "config.json"; }
  std::filesystem::path metrics() const { return root_ / "metrics.csv"; }
  std::filesystem::path events() const { return root_ / "events.jsonl"; }
  std::filesystem::path checkpoint(const std::string& name) const {
    return root_ / "checkpoints" / (name + ".safetensors");
  }
  std::filesystem::path state() const { return checkpoint("last.state"); }
  std::filesystem::path certificate() const { return root_ / "certificate"; }
  std::filesystem::path evaluation(const std::string& protocol) const {
    return root_ / "eval" / protocol;
  }

 private:
  std::filesystem::path root_;
};

enum class Resume { never, automatic };

// Held while a process fills a folder, so that no second one does; released when the process ends,
// however it ends.
class FolderLock {
 public:
  // Makes the folder where there is none; throws where it cannot be written, or another process
  // holds it.
  explicit FolderLock(const std::filesystem::path& folder);
  FolderLock(FolderLock&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  FolderLock& operator=(FolderLock&&) = delete;
  ~FolderLock();

 private:
  int descriptor_ = -1;
};

// Whether a run ends with this state: all its epochs are over, or train.patience of them have
// passed since the best check on the validation split and the last epoch's check was no better.
bool is_over(const Config& config, const RunState& state);

// "unfinished: 25 of 40 epochs" of a run that can go on, or was killed; empty of one that is over
// or has no state.
std::string unfinished_text(const RunFolder& folder, const Config& config);

struct OpenedRun {
  RunFolder folder;
  RunState state;  // epoch 0 for a fresh run
  bool is_finished = false;
  std::optional<FolderLock> lock = {};  // of a run that is to be trained
};

// Finds or makes the folder of a run and writes config.json: run.dir as given, else
// runs/<preset>-<n> with the first free n. A run that is there is an Error; with
// Resume::automatic and the same configuration an unfinished one is continued, and a finished one
// is_finished and never touched.
OpenedRun open_run(const Config& config, const std::string& config_json, Resume resume);

// A run folder stands for its last checkpoint wherever a checkpoint is asked for.
std::filesystem::path checkpoint_of(const std::filesystem::path& run_or_checkpoint);

}  // namespace moat::train
