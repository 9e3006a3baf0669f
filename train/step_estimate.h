#pragma once

#include "data/image_set.h"
#include "train/config.h"

namespace moat::train {

// What training will take on this machine, from a step on random images.
struct StepEstimate {
  int64_t measured_images = 0;  // of a batch: on a CPU as many as take seconds
  double seconds = 0;           // of a step of train.batch images
  int64_t memory_bytes = 0;     // of tensors: the model, its optimizer's state, and such a step
};

// Runs two or three steps of the configured method, with the configured number format, on images
// of the size of `set`, which may be empty; nothing is written. Throws engine::Error where a step
// does not fit the memory.
StepEstimate estimate_step(const Config& config, const data::ImageSet& set);

}  // namespace moat::train
