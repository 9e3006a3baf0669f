#pragma once

#include "train/learner.h"

namespace moat::bench {

// The MoE-CNN as its authors run it: every convolution computes all experts for all images, a mask
// zeroes those not chosen, and what is left is added up. The same function as model.forward(), to
// measure what sorting the batch by expert saves, and to test it; batch norms are folded in
// evaluation mode as they are there, unless weights are differentiated. `model`, a MoE-ResNet of
// basic blocks, must outlive the result.
train::Learner::Forward masked_forward(models::Classifier& model);

}  // namespace moat::bench
