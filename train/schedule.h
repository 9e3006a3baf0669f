#pragma once

#include "train/config.h"

namespace moat::train {

// Learning rate of an epoch (0, 1, …) of a run, as a factor of train.learning_rate.
//   cosine:   0.5 (1 + cos(pi e / E))                       (Loshchilov & Hutter 2017)
//   step:     1, 0.1 from 0.75 E, 0.01 from 0.9 E
//   constant: 1
// With warm-up the first w epochs climb linearly, (e + 1) / (w + 1), times the factor.
double schedule_factor(const TrainSettings& settings, int epoch);

}  // namespace moat::train
