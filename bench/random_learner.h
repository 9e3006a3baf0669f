#pragma once

#include <memory>

#include "bench/step_case.h"
#include "data/image_set.h"
#include "train/learner.h"

namespace moat::bench {

// How many forward passes cost as much as what is measured: a backward pass for the pixels costs
// one, one for pixels and weights two.
struct Passes {
  double net, router;
};

// A freshly drawn model with the settings of a preset and the images it meets; times depend on
// neither the weights nor the pixels.
struct RandomLearner {
  train::Config config;
  data::ImageSet set;
  train::Learner learner;
  data::Batch batch;  // all of `set`, on the model's device

  RandomLearner(const std::string& preset, const std::string& model, data::ImageSet images,
                const CaseOptions& options);
  train::StepSettings step() const;
  double macs(const Passes& passes) const;  // multiply-accumulates, of the batch
};

// On options.batch random images of 32x32x3, ten classes.
std::shared_ptr<RandomLearner> on_random_images(const std::string& preset, const std::string& model,
                                                const CaseOptions& options);

}  // namespace moat::bench
