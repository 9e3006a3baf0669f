#pragma once

#include <nlohmann/json_fwd.hpp>

#include "data/image_set.h"
#include "train/config.h"

namespace moat::train {

// The images that a configuration names, the first `limit` of the split; 0: all. Throws as
// data::load() does.
data::ImageSet load_images(const DataSettings& settings, data::Split split, int64_t limit);

// {"name", "split", "n", "sha256"} of the images that a document's numbers are of; reads all of
// their bytes.
nlohmann::ordered_json images_json(const data::ImageSet& set);

}  // namespace moat::train
