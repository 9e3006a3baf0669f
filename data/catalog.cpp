#include "data/catalog.h"

#include "data/cifar.h"
#include "data/converted.h"
#include "data/digits.h"
#include "data/image_folder.h"
#include "data/tiny_imagenet.h"
#include "engine/names.h"

namespace moat::data {

using engine::text;
using engine::UsageError;

namespace {
constexpr const char *kNone = nullptr, *kFolder = "the folder of the data set",
                     *kFile = "the file that moat data convert wrote";

constexpr CatalogEntry kCatalog[] = {
    {"digits", "handwritten digits, 8x8 gray, bundled", kNone, false,
     [](const DataConfig&, Split split) { return Source{digits(split)}; }},
    {"cifar10", "CIFAR-10, the published binary files", kFolder, false,
     [](const DataConfig& c, Split split) {
       return Source{cifar(cifar10_layout(), c.path, split)};
     }},
    {"cifar100", "CIFAR-100 with fine labels, the published binary files", kFolder, false,
     [](const DataConfig& c, Split split) {
       return Source{cifar(cifar100_layout(), c.path, split)};
     }},
    {"tiny-imagenet", "Tiny-ImageNet, 64x64, 200 classes, the published files", kFolder, true,
     [](const DataConfig& c, Split split) {
       return open_tiny_imagenet({}, c.path, split, {.resize = c.resize, .limit = c.limit});
     }},
    {"imagefolder", "<split>/<class>/*.jpg, *.jpeg, *.png", kFolder, true,
     [](const DataConfig& c, Split split) {
       return open_image_folder(c.path, split, {.resize = c.resize, .limit = c.limit});
     }},
    {"converted", "any of them in one file that is used where it lies", kFile, false,
     [](const DataConfig& c, Split split) { return Source{read_converted(c.path, split)}; }},
    {"synthetic", "random images of any size, for measurements and tests", kNone, false,
     [](const DataConfig& c, Split split) { return Source{synthetic(c.synthetic, split)}; }},
};

const CatalogEntry& entry_of(const std::string& name) {
  return engine::find_named("data.name", name, kCatalog,
                            [](const CatalogEntry& entry) { return entry.name; });
}
}  // namespace

std::span<const CatalogEntry> catalog() { return kCatalog; }

Source open(const DataConfig& config, Split split) {
  const CatalogEntry& entry = entry_of(config.name);
  if (entry.path && config.path.empty())
    throw UsageError(text(config.name, ": data.path must name ", entry.path));
  const int side = config.resize.side;
  if (side < 0 || (side > 0 && !entry.may_resize))
    throw UsageError(text("data.resize: is a side in pixels for sets of image files, got ", side,
                          " for ", config.name, "; set it to 0"));
  if (config.limit < 0)
    throw UsageError(text("data.limit: must not be negative, got ", config.limit));
  Source source = entry.open(config, split);
  if (config.limit > 0 && !source.read) source.set = first_rows(source.set, config.limit);
  return source;
}

ImageSet load(const DataConfig& config, Split split) {
  ImageSet set = cropped(loaded(open(config, split)), config.crop);
  validate(set);
  return set;
}

}  // namespace moat::data
