#pragma once

#include "data/image_set.h"
#include "train/config.h"

namespace moat::train {

// The images that a configuration names, the first `limit` of the split; 0: all. Throws as
// data::load() does.
data::ImageSet load_images(const DataSettings& settings, data::Split split, int64_t limit);

}  // namespace moat::train
