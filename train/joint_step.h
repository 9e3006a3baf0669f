#pragma once

#include <functional>

#include "train/objective.h"

namespace moat::train {

// One update of router and experts together, or of the one that is not frozen, by the terms that
// `objective` records at the model's weights, with train.balance times the router's balance loss
// (of the clean pass where there is one); where train.awp says so, by the slope at weights
// perturbed against that sum.
StepReport joint_step(Learner& learner, const data::Batch& batch, const StepSettings& step,
                      const std::function<Terms()>& objective);

}  // namespace moat::train
