#pragma once

#include <filesystem>

#include "train/evaluate.h"

namespace moat::train {

// One row per image: index, label, clean_pred, adv_pred, fooled_by, iteration, margin, linf, l2,
// route_clean, route_adv; routes are empty for a dense model.
void write_samples(const std::filesystem::path& file, const Evaluation& evaluation,
                   const data::ImageSet& set);

// adversarial.safetensors: `images` and `adversarial` float32 [m, c, h, w], `labels` int64 [m] of
// all attacked images; gallery.png: the first sixteen as clean, adversarial and difference.
void write_pictures(const std::filesystem::path& folder, const Evaluation& evaluation,
                    const data::ImageSet& set);

}  // namespace moat::train
