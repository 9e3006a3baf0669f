#pragma once

#include <string>

#include "cli/commands.h"
#include "train/trainer.h"

namespace moat::cli {

// Trains with a progress bar and a line per epoch, until it is done or Ctrl-C.
train::TrainOutcome train_watched(const train::Config& config, train::Resume resume,
                                  const Globals& globals);

// "trained 20 epochs, 14 s: runs/mine", and the accuracies on the validation split.
std::string training_text(const train::Config& config, const train::TrainOutcome& outcome);

}  // namespace moat::cli
