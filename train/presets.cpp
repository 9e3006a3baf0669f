#include <algorithm>

#include "engine/error.h"
#include "engine/names.h"
#include "train/config.h"

namespace moat::train {

namespace {

// A preset is another one (or the defaults) and the settings in which it differs.
struct Recipe {
  PresetRow row;
  const char* from;
  std::vector<const char*> settings;
};

const std::vector<Recipe>& recipes() {
  static const std::vector<Recipe> all = {
      {{"digits-natural", "dense net on the digits, no attack"}, "", {"train.method=natural"}},
      {{"digits-at", "dense net on the digits, adversarial training (PGD-10, eps 0.1)"},
       "",
       {"train.method=at", "train.epochs=40"}},
      {{"digits-at-moe", "mixture of 2 experts, adversarial training of all weights jointly"},
       "digits-at",
       {"model.name=digits-moe-resnet"}},
      {{"digits-advmoe", "mixture of 2 experts, AdvMoE: router and experts in turns"},
       "digits-at-moe",
       {"train.method=advmoe", "train.beta=3"}},
      {{"demo-dense", "the demo's dense net"},
       "digits-at",
       {"train.epochs=30", "eval.validation_every=5"}},
      {{"demo-moe", "the demo's jointly trained mixture"},
       "digits-at-moe",
       {"eval.validation_every=5"}},
      {{"demo-advmoe", "the demo's AdvMoE mixture"}, "digits-advmoe", {"eval.validation_every=5"}},
      {{"demo", "the same as demo-advmoe"}, "demo-advmoe", {}},
      {{"cifar10-at", "ResNet-18 on CIFAR-10, adversarial training (PGD-10, eps 8/255)"},
       "",
       {"model.name=resnet18", "data.name=cifar10", "data.augment=crop-flip", "train.method=at",
        "train.epochs=100", "train.batch=128", "train.eps=8/255", "train.step=2/255",
        "train.steps=10", "train.learning_rate=0.1", "train.weight_decay=5e-4"}},
      {{"cifar10-at-moe", "MoE-ResNet-18, adversarial training of all weights jointly"},
       "cifar10-at",
       {"model.name=moe-resnet18"}},
      {{"cifar10-advmoe", "MoE-ResNet-18, AdvMoE: router and experts in turns"},
       "cifar10-at-moe",
       {"train.method=advmoe"}},
  };
  return all;
}

Config configure(const Recipe& recipe) {
  Config config = *recipe.from ? preset(recipe.from) : Config{};
  for (const char* setting : recipe.settings) config = override_with(config, setting);
  config.preset = recipe.row.name;
  return config;
}

}  // namespace

const std::vector<PresetRow>& presets() {
  static const std::vector<PresetRow> rows = [] {
    std::vector<PresetRow> all;
    for (const Recipe& recipe : recipes()) all.push_back(recipe.row);
    return all;
  }();
  return rows;
}

Config preset(const std::string& name) {
  return configure(engine::find_named("the preset", name, recipes(),
                                      [](const Recipe& recipe) { return recipe.row.name; }));
}

}  // namespace moat::train
