#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "train/config.h"
#include "train/learner.h"
#include "train/model_settings.h"
#include "train/run_folder.h"

namespace moat::train {

// What the loop tells whoever watches.
struct TrainWatcher {
  // After each batch: images done and to do over the whole run, epoch from 0, running numbers.
  std::function<void(int64_t done, int64_t total, int epoch, const StepStatistics& so_far)> batch;
  std::function<void(const std::string& line)> epoch;    // one line per finished epoch
  std::function<void(const std::string& line)> warning;  // collapse, robust overfitting, …
  std::function<bool()> stop_requested;                  // asked after each batch
};

struct TrainOutcome {
  std::filesystem::path folder;
  int epochs = 0;             // completed
  bool interrupted = false;   // stop_requested() said so
  bool was_finished = false;  // there was nothing left to do
  double seconds = 0;         // of this call
  // Validation accuracy (robust, where the method is) of the best check and of this call's last
  // one, -1 without any; how far apart they are is the run's robust overfitting.
  double best = -1;
  int best_epoch = 0;
  double last = -1;
};

// Model settings as configured, for images like those of `set`.
models::ClassifierSettings classifier_settings(const Config& config, const data::ImageSet& set);

// Everything resolved, as config.json holds it.
std::string resolved_json(const Config& config, models::Classifier& model);

// Trains by config.train.method and fills the run folder. Killing it at any instant loses at most
// the current epoch; continued with Resume::automatic it ends bit-identical to an uninterrupted run
// on the same machine and thread count.
TrainOutcome train(const Config& config, Resume resume, const TrainWatcher& watcher);

}  // namespace moat::train
