#pragma once

#include "train/methods.h"

namespace moat::bench {

// The AdvMoE iteration in the form the authors run it: every convolution computes all experts, a
// mask zeroes the ones not chosen, and the chosen channels are gathered. The same mathematics as
// train::advmoe_step, to measure what sorting the batch by expert saves.
train::StepStatistics masked_advmoe_step(train::Learner& learner, const data::Batch& batch,
                                         const train::StepSettings& step);

}  // namespace moat::bench
