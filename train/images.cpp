#include "train/images.h"

#include <nlohmann/json.hpp>

#include "data/catalog.h"

namespace moat::train {

data::ImageSet load_images(const DataSettings& settings, data::Split split, int64_t limit) {
  return data::load({.name = settings.name,
                     .path = settings.path,
                     .resize = {settings.resize, data::parse_resize_by(settings.resize_by)},
                     .crop = settings.crop,
                     .limit = limit},
                    split);
}

nlohmann::ordered_json images_json(const data::ImageSet& set) {
  return {{"name", set.name},
          {"split", data::name_of(set.split)},
          {"n", set.size()},
          {"sha256", data::content_hash(set)}};
}

}  // namespace moat::train
