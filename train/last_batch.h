#pragma once

#include <cstdint>

#include "models/settings.h"
#include "train/config.h"

namespace moat::train {

// Throws UsageError where the last batch of an epoch over `images` is a single image, and a batch
// norm of the model has but one value per channel of it: no statistics.
void require_batch_statistics(const TrainSettings& train, const models::ClassifierSettings& model,
                              int64_t images);

}  // namespace moat::train
