#pragma once

#include "train/learner.h"

namespace moat::train {

// What training will take on this machine, from a step on random images.
struct StepEstimate {
  int64_t measured_images = 0;  // of a batch: on a CPU as many as take seconds
  double seconds = 0;           // of a step of train.batch images
  int64_t memory_bytes = 0;     // of tensors: the model, its optimizer's state, and such a step
};

// Runs two or three steps of the configured method, with the configured number format, on a learner
// that nobody has prepared and that is of no use afterwards. Throws engine::Error where a step does
// not fit the memory.
StepEstimate estimate_step(Learner& learner, const Config& config);

}  // namespace moat::train
