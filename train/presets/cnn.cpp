#include <algorithm>

#include "models/zoo.h"
#include "train/presets/recipe.h"

namespace moat::train {

namespace {

struct Net {
  std::string name, title, row;  // the zoo's row of the dense form
  ShortLength length;            // of all methods alike, so that they compare
};

struct Method {
  std::string name, before, behind;  // before and behind the zoo's row
  std::string about;
  std::vector<std::string> settings;
};

// The release's defaults, which serve all its data sets; none of a data set's own are published.
// The attack is the one of its tests, 10 steps of 2/255, but where a method has its training
// attack.
const std::vector<std::string> kShared = {
    "train.method=at",  "train.epochs=100", "train.batch=128",         "train.eps=8/255",
    "train.step=2/255", "train.steps=10",   "train.learning_rate=0.1", "train.weight_decay=5e-4",
};

const std::vector<Method> kMethods = {
    {"at", "", "", "adversarial training (PGD-10, eps 8/255)", {}},
    {"at-s-dense", "", "", "half as wide, adversarial training", {"model.ratio=0.5"}},
    {"at-sparse",
     "",
     "",
     "half of its filters by learned scores, adversarial training",
     {"model.kept=0.5"}},
    {"at-moe", "moe-", "", "adversarial training of all weights jointly", {}},
    {"trades", "", "", "TRADES, the objective of AdvMoE", {"train.method=trades"}},
    {"trades-moe", "moe-", "", "TRADES of all weights jointly", {"train.method=trades"}},
    {"advmoe", "moe-", "", "AdvMoE: router and experts in turns", {"train.method=advmoe"}},
    {"advmoe-released",
     "moe-",
     "-released",
     "the model and objective of the AdvMoE release",
     {"train.method=advmoe", "train.form=released", "train.steps=2", "train.step=5/255",
      "train.gate=through"}},
};

ShortLength length(int epochs, int64_t limit = 0) {
  return {epochs, limit, {"train.learning_rate=0.2", "train.warmup_epochs=1"}};
}

// The dearest method decides: microseconds of an image = passes x executed G x us / G (recipe.h);
// AT takes 23 passes, TRADES 27, AdvMoE 54, its released form 22. DenseNets move more activations
// than their multiply-accumulates tell: the small one is counted as a ResNet-18, the large one
// three times.
struct Nets {
  std::string data;
  std::vector<Net> nets;
};
const std::vector<Nets>& nets() {
  // 45,000 images. AdvMoE's ResNet-18: 149 us, timed = 202 s for 30 epochs; WRN: 54 x 1.35 x 15.6 =
  // 1.14 ms = 307 s; WRN-34: 54 x 1.71 x 15.6 = 1.44 ms = 259 s; VGG: 54 x 0.120 x 15.6 = 101 us =
  // 136 s. PreAct-ResNet-18 has the work of ResNet-18.
  static const std::vector<Net> small = {
      {"", "ResNet-18", "resnet18", length(30)},
      {"preact", "PreAct-ResNet-18", "preact-resnet18", length(30)},
      {"wrn", "WRN-28-10", "wrn-28-10", length(6)},
      {"wrn34", "WRN-34-10", "wrn-34-10", length(4)},
      {"vgg", "VGG-16", "vgg16", length(30)},
      {"densenet", "DenseNet-40", "densenet40", length(30)}};
  // 90,000 images. AdvMoE's ResNet-18: 54 x 0.598 x 15.6 = 504 us = 272 s; WRN: 54 x 5.41 x 15.6 =
  // 4.6 ms = 228 s; VGG: 54 x 0.335 x 15.6 = 282 us = 254 s.
  static const std::vector<Net> tiny = {{"", "ResNet-18", "resnet18", length(6)},
                                        {"wrn", "WRN-28-10", "wrn-28-10", length(5, 10000)},
                                        {"vgg", "VGG-16", "vgg16", length(10)},
                                        {"densenet", "DenseNet-40", "densenet40", length(6)}};
  // The released ResNet-18: 22 x 2.47 x 15.6 = 848 us = 254 s; AdvMoE's WRN: 54 x 4.25 x 15.6 =
  // 3.6 ms = 269 s; DenseNet-121: 3 x 54 x 0.796 x 15.6 = 2.0 ms = 302 s.
  static const std::vector<Net> large = {
      {"", "ResNet-18", "resnet18-imagenet", length(15, 20000)},
      {"wrn", "WRN-28-10", "wrn-28-10-imagenet", length(15, 5000)},
      {"densenet", "DenseNet-121", "densenet121-imagenet", length(15, 10000)}};
  static const std::vector<Nets> all = {
      {"cifar10", small}, {"cifar100", small}, {"tiny-imagenet", tiny}, {"imagenet", large}};
  return all;
}

bool has_row(const std::string& name) {
  return std::ranges::any_of(models::zoo(),
                             [&](const auto& row) { return row.settings.name == name; });
}

// The same by CPU: ResNet-14, a quarter of the width, on a fifth of CIFAR-10.
std::vector<Recipe> narrow() {
  const auto recipe = [](std::string name, std::string about, std::string from,
                         std::vector<std::string> settings) {
    return Recipe{preset_data("cifar10").family,
                  {std::move(name), std::move(about)},
                  std::move(from),
                  std::move(settings)};
  };
  return {
      recipe("cifar10-narrow-at",
             "ResNet-14 on 10,000 images of CIFAR-10 and a CPU: PGD-2 as AdvMoE's", "cifar10-at",
             {"model.name=resnet14", "data.limit=10000", "train.epochs=24", "train.steps=2",
              "train.step=5/255", "eval.validation_every=8"}),
      recipe("cifar10-narrow-at-moe", "MoE-ResNet-14, adversarial training of all weights jointly",
             "cifar10-narrow-at", {"model.name=moe-resnet14"}),
      recipe("cifar10-narrow-trades", "ResNet-14, TRADES, the objective of AdvMoE",
             "cifar10-narrow-at", {"train.method=trades"}),
      recipe("cifar10-narrow-trades-moe", "MoE-ResNet-14, TRADES of all weights jointly",
             "cifar10-narrow-at-moe", {"train.method=trades"}),
      recipe("cifar10-narrow-advmoe", "MoE-ResNet-14, AdvMoE: router and experts in turns",
             "cifar10-narrow-at-moe", {"train.method=advmoe"}),
  };
}

}  // namespace

std::vector<Recipe> cnn_recipes() {
  std::vector<Recipe> all;
  for (const Nets& group : nets()) {
    const PresetData& data = preset_data(group.data);
    for (const Net& net : group.nets)
      for (const Method& method : kMethods) {
        const std::string row = method.before + net.row + method.behind;
        if (!has_row(row)) continue;  // a net without a released form
        add_with_short(all,
                       {data.family,
                        {joined({data.name, net.name, method.name}),
                         (method.before.empty() ? "" : "MoE-") + net.title + ", " + method.about},
                        "",
                        together({kShared, data.settings, {"model.name=" + row}, method.settings})},
                       net.length);
      }
  }
  for (Recipe& recipe : narrow()) all.push_back(std::move(recipe));
  return all;
}

}  // namespace moat::train
