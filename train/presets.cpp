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
      {{"digits-advmoe-released", "the same by the objective of the AdvMoE release"},
       "digits-advmoe",
       {"train.form=released", "train.beta=6"}},
      {{"digits-rt-er", "2 networks on the digits, RT-ER: the mixture and each second expert"},
       "digits-at",
       {"model.name=digits-networks-resnet", "model.experts=2", "model.normalize=data",
        "train.method=rt-er", "eval.validation_every=5"}},
      {{"digits-jtdmoe", "two such mixtures, JTDMoE: a robust and a standard one in turns"},
       "digits-rt-er",
       {"train.method=jtdmoe", "train.epochs=30"}},
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
      {{"cifar10-advmoe-released", "the same model and objective as the AdvMoE release"},
       "cifar10-advmoe",
       {"model.name=moe-resnet18-released", "train.form=released", "train.steps=2",
        "train.step=5/255", "train.gate=through"}},
      {{"cifar10-narrow-at", "ResNet-14 on 10,000 images of CIFAR-10 and a CPU: PGD-2 as AdvMoE's"},
       "cifar10-at",
       {"model.name=resnet14", "data.limit=10000", "train.epochs=24", "train.steps=2",
        "train.step=5/255", "eval.validation_every=8"}},
      {{"cifar10-narrow-at-moe", "MoE-ResNet-14, adversarial training of all weights jointly"},
       "cifar10-narrow-at",
       {"model.name=moe-resnet14"}},
      {{"cifar10-narrow-advmoe", "MoE-ResNet-14, AdvMoE: router and experts in turns"},
       "cifar10-narrow-at-moe",
       {"train.method=advmoe"}},
      {{"cifar10-rt-er", "4 ResNet-18 on CIFAR-10, RT-ER: the mixture and each second expert"},
       "cifar10-at",
       {"model.name=networks-resnet18", "model.normalize=data", "data.crop_padding=2",
        "data.cutout=8", "data.cutout_fill=mean", "train.method=rt-er", "train.epochs=130",
        "train.batch=512", "train.weight_decay=0", "train.optimizer=adamw", "train.schedule=cyclic",
        "train.learning_rate=1e-4", "train.cycle=1000", "train.cycle_base=0.5"}},
      {{"cifar10-jtdmoe", "two such mixtures, JTDMoE: a robust and a standard one in turns"},
       "cifar10-rt-er",
       {"train.method=jtdmoe", "train.kl_experts=all"}},
      {{"tiny-imagenet-advmoe-released", "the AdvMoE release on Tiny-ImageNet at 64 x 64"},
       "cifar10-advmoe-released",
       {"data.name=tiny-imagenet"}},
      {{"tiny-imagenet-rt-er", "4 ViT-S/16 on Tiny-ImageNet at 224 x 224, RT-ER, from scratch"},
       "cifar10-rt-er",
       {"model.name=networks-vit-small-patch16-224", "data.name=tiny-imagenet", "data.resize=224",
        "train.epochs=10", "train.eps=2/255", "train.step=2/255"}},
      {{"tiny-imagenet-jtdmoe", "two such mixtures, JTDMoE"},
       "tiny-imagenet-rt-er",
       {"train.method=jtdmoe", "train.kl_experts=all"}},
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
