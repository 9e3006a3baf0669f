#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/optim/flat.h"
#include "models/classifier.h"

namespace moat::train {

// Exponential moving average of a model's parameters and running statistics. After step t = 1, 2, …
// of the run each number a follows the model's x by
//   a += (1 - d) (x - a), d = min(decay, (1 + t) / (10 + t)),
// which forgets the random start of a short run (the rule of TensorFlow's
// ExponentialMovingAverage).
class WeightAverage {
 public:
  // `groups` hold all parameters of the model. The average starts as the model is.
  WeightAverage(models::Classifier& model, const std::vector<engine::FlatParameters*>& groups,
                double decay);

  void update(int64_t step);

  // Gives the model the average's numbers and keeps the model's in their place; a second call
  // undoes the first to the last bit.
  void exchange();

  // What a state keeps: the average of each group and of each running statistic.
  struct Part {
    std::string name;            // "group.0", "bn1.running_mean"
    engine::Tensor of, average;  // `of` shares the model's bytes
  };
  const std::vector<Part>& parts() const { return parts_; }

 private:
  std::vector<Part> parts_;
  double decay_;
};

}  // namespace moat::train
