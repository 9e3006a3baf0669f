#include "train/images.h"

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

}  // namespace moat::train
