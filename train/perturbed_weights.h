#pragma once

#include <functional>
#include <vector>

#include "train/learner.h"

namespace moat::train {

// Adversarial weight perturbation (Wu et al. 2020, section 4). While it lives, each
// tensor w of more than one axis of the groups is w + gamma ‖w‖ g / ‖g‖, g the slope of `loss`
// there: one step up. The ascent leaves running statistics as they were.
class PerturbedWeights {
 public:
  PerturbedWeights(Learner& learner, std::vector<engine::FlatParameters*> groups, double gamma,
                   const std::function<engine::Tensor()>& loss);
  ~PerturbedWeights();
  PerturbedWeights(const PerturbedWeights&) = delete;

  void restore();  // the groups' bits from before; what restores them a second time does nothing

 private:
  std::vector<engine::FlatParameters*> groups_;
  engine::Tensors before_;  // of each group; empty once restored
};

}  // namespace moat::train
