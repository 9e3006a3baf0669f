#pragma once

#include <functional>

#include "attacks/pgd.h"
#include "attacks/victims.h"
#include "train/analysis/routes.h"

namespace moat::train {

// The set, so many images at a time, on the model's device.
void each_batch(const models::Classifier& model, const data::ImageSet& set, int batch,
                const std::function<void(const attacks::Victims&)>& look);

// The PGD of an analysis: steps of eps / 4.
attacks::Pgd pgd_of(const AnalysisSettings& settings);

}  // namespace moat::train
