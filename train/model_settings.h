#pragma once

#include "models/settings.h"
#include "train/config.h"

namespace moat::train {

// The zoo's row with the settings laid over it, for the images that the row is meant for. Throws
// UsageError for what the row cannot be told.
models::ClassifierSettings zoo_settings(const ModelSettings& model);

// Of two models with these settings, a standard and a robust one.
models::ClassifierSettings dual_settings(const ModelSettings& model,
                                         const models::ClassifierSettings& part);

}  // namespace moat::train
