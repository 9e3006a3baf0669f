#pragma once

#include "data/image_set.h"
#include "train/learner.h"

namespace moat::train {

// Whether a run checks itself on the validation split after `epoch` epochs: after the first and the
// last, and every eval.validation_every.
bool is_validated_after(const Config& config, int epoch);

struct Validation {
  double clean = 0, robust = 0;  // fractions
};

// Clean and robust accuracy on the validation split: PGD of eval.validation_steps steps of eps/4 in
// the training ball, a routed model with the gate open and blocked, worst per image. It chooses the
// best checkpoint; the test split never does. Images of a V-MoE that share room are validated in
// the company of their batch, which a run warns of.
Validation validate_on(const Learner& learner, const data::ImageSet& set, const Config& config);

}  // namespace moat::train
