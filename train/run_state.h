#pragma once

#include <filesystem>
#include <optional>

#include "train/learner.h"

namespace moat::train {

// How far a run is. Random draws are counter-based, so nothing else is needed to continue it.
struct RunState {
  int epoch = 0;          // completed
  int64_t iteration = 0;  // completed
  double best = -1;       // the validation accuracy that chose checkpoints/best
  int best_epoch = 0;
  int threads = 0;    // the run's thread count: part of what makes two runs give the same bits
  int rollbacks = 0;  // divergences so far, each of which has halved the learning rate
};

// Everything needed to continue bit for bit, in one file that replaces its predecessor at once:
// model tensors as in a checkpoint ("model." + name), and in flat buffers what the learner was
// prepared with: momentum or AdamW's moments ("velocity.experts", "second_moment.robust.router",
// …), the average ("average." + part).
void save_state(const std::filesystem::path& file, Learner& learner, const RunState& state);
// Fills the learner; throws a one-line Error naming the file when it does not fit.
RunState load_state(const std::filesystem::path& file, Learner& learner);
// The counters alone; nothing when there is no such file.
std::optional<RunState> peek_state(const std::filesystem::path& file);

}  // namespace moat::train
