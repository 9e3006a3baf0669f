#include "data/catalog.h"

#include <algorithm>

#include "data/cifar.h"
#include "data/digits.h"
#include "data/image_folder.h"
#include "engine/names.h"

namespace moat::data {

using engine::text;
using engine::UsageError;

namespace {
constexpr CatalogEntry kCatalog[] = {
    {"digits", "handwritten digits, 8x8 gray, bundled", false,
     [](const DataConfig&, Split split) { return digits(split); }},
    {"cifar10", "CIFAR-10, the published binary files", true,
     [](const DataConfig& c, Split split) { return cifar(cifar10_layout(), c.path, split); }},
    {"cifar100", "CIFAR-100 with fine labels, the published binary files", true,
     [](const DataConfig& c, Split split) { return cifar(cifar100_layout(), c.path, split); }},
    {"imagefolder", "<split>/<class>/*.jpg, *.jpeg, *.png", true,
     [](const DataConfig& c, Split split) {
       return image_folder(c.path, split, {.resize = c.resize, .limit = c.limit});
     }},
    {"synthetic", "random images of any size, for measurements and tests", false,
     [](const DataConfig& c, Split split) { return synthetic(c.synthetic, split); }},
};

const CatalogEntry& entry_of(const std::string& name) {
  return engine::find_named("data.name", name, kCatalog,
                            [](const CatalogEntry& entry) { return entry.name; });
}
}  // namespace

std::span<const CatalogEntry> catalog() { return kCatalog; }

ImageSet load(const DataConfig& config, Split split) {
  const CatalogEntry& entry = entry_of(config.name);
  if (entry.needs_path && config.path.empty())
    throw UsageError(text(config.name, ": data.path must name the folder of the data set"));
  if (config.resize < 0 || (config.resize > 0 && config.name != "imagefolder"))
    throw UsageError(text("data.resize: is a side in pixels for imagefolder, got ", config.resize,
                          " for ", config.name));
  if (config.limit < 0)
    throw UsageError(text("data.limit: must not be negative, got ", config.limit));
  ImageSet set = entry.load(config, split);
  if (config.limit > 0 && config.limit < set.size()) set = first_rows(set, config.limit);
  validate(set);
  return set;
}

}  // namespace moat::data
