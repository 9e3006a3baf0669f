#include "train/presets/recipe.h"

#include <iterator>

#include "engine/error.h"
#include "engine/names.h"

namespace moat::train {

namespace {

const std::vector<PresetData>& data_sets() {
  // ImageNet as the AdvMoE release cuts it: 256 x 256, the aspect not kept, and 224 of that.
  static const std::vector<PresetData> all = {
      {"cifar10", "CIFAR-10", {"data.name=cifar10", "data.augment=crop-flip"}},
      {"cifar100", "CIFAR-100", {"data.name=cifar100", "data.augment=crop-flip"}},
      {"tiny-imagenet", "Tiny-ImageNet", {"data.name=tiny-imagenet", "data.augment=crop-flip"}},
      {"imagenet",
       "ImageNet",
       {"data.name=imagefolder", "data.resize=256", "data.crop=224", "data.augment=crop-flip",
        "data.crop_padding=0"}},
  };
  return all;
}

}  // namespace

const PresetData& preset_data(const std::string& name) {
  return engine::find_named("the data of a preset", name, data_sets(),
                            [](const PresetData& data) { return data.name; });
}

std::vector<std::string> together(std::initializer_list<std::vector<std::string>> parts) {
  std::vector<std::string> all;
  for (const auto& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

std::string joined(std::initializer_list<std::string> words) {
  std::string name;
  for (const std::string& word : words)
    if (!word.empty()) name += (name.empty() ? "" : "-") + word;
  return name;
}

void add_with_short(std::vector<Recipe>& to, const Recipe& full, const ShortLength& length) {
  using engine::text;
  Recipe less{full.family,
              {joined({full.row.name, "short"}), full.row.about},
              full.row.name,
              {text("train.epochs=", length.epochs), "train.batch=512", "eval.validation_every=5"}};
  less.row.about += text("; ", length.epochs, " epochs");
  if (length.limit > 0) {
    for (const char* images : {"data.limit=", "eval.validation_limit="})
      less.settings.push_back(text(images, length.limit));
    less.row.about += text(" of ", length.limit, " images");
  }
  less.settings = together({less.settings, length.learning_rate});
  to.push_back(full);
  to.push_back(less);
}

}  // namespace moat::train
