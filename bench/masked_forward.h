#pragma once

#include "train/learner.h"

namespace moat::bench {

// The MoE-CNN as its authors run it: every convolution computes all experts for all images, a mask
// zeroes those not chosen, and what is left is added up. The same function as model.forward(), to
// measure what sorting the batch by expert saves; batch norms are folded in evaluation mode as they
// are there. `model` must outlive the result.
train::Learner::Forward masked_forward(models::Classifier& model);

}  // namespace moat::bench
