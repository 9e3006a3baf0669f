#pragma once

#include <cstdint>

#include "train/config.h"

namespace moat::train {

// Learning rate of an iteration (0, 1, … of the run) in an epoch (likewise), as a factor of
// train.learning_rate.
//   cosine:   0.5 (1 + cos(pi e / E))                       (Loshchilov & Hutter 2017)
//   linear:   1 - e / E
//   step:     1, 0.1 from 0.75 E, 0.01 from 0.9 E
//   constant: 1
//   cyclic:   b + (1 - b) (1 - |2 x - 1|), b train.cycle_base, x the part of the cycle of
//             train.cycle iterations that is over: b to 1 to b         (triangular; Smith 2017)
// With warm-up the first w epochs climb linearly, (e + 1) / (w + 1), times the factor.
double schedule_factor(const TrainSettings& settings, int epoch, int64_t iteration);

}  // namespace moat::train
