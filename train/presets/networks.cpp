#include "train/presets/recipe.h"

namespace moat::train {

namespace {

// How many KL terms a step has: of each image's second expert, or of every expert.
enum class Terms { second, all };

// Four whole networks. `released` is what the release changes whatever the method.
struct Mixture {
  std::string data, title;
  std::vector<std::string> settings, released;
  ShortLength second, all;  // by the terms
};

struct Method {
  std::string name, about;
  Terms terms;
  bool is_released;
  std::vector<std::string> settings;
};

// Epochs, learning rate and attack as the paper has them; batch, optimizer, cycle, augmentation and
// Tiny-ImageNet's eps and step are the release's.
const std::vector<std::string> kShared = {
    "data.crop_padding=2",  "data.cutout=8",         "data.cutout_fill=mean",
    "model.normalize=data", "train.method=rt-er",    "train.batch=512",
    "train.step=2/255",     "train.steps=10",        "train.learning_rate=1e-4",
    "train.weight_decay=0", "train.optimizer=adamw", "train.schedule=cyclic",
    "train.cycle=1000",     "train.cycle_base=0.5",
};

// The cycle is shorter, so that a run ends where the rate is lowest.
ShortLength length(int epochs, int64_t limit, const std::string& cycle) {
  return {epochs, limit, {"train.cycle=" + cycle}};
}

const std::vector<Mixture>& mixtures() {
  // Passes: RT-ER 50, JTDMoE 54, JTDMoE with a term of every expert 133. CIFAR-10, 45,000 images of
  // 0.555 G: RT-ER 178 us = 240 s, JTDMoE 259 s, with all terms 473 us = 255 s. Tiny-ImageNet,
  // 4.60 G: RT-ER 1.5 ms = 221 s, JTDMoE 238 s, with all terms 3.9 ms = 294 s.
  static const std::vector<Mixture> all = {
      {"cifar10",
       "4 ResNet-18",
       {"model.name=networks-resnet18", "train.eps=8/255", "train.epochs=130"},
       {"train.epochs=200", "train.batch_norm=running"},
       length(30, 0, "880"),
       length(12, 0, "1056")},
      {"tiny-imagenet",
       "4 ViT-S/16 at 224 x 224 from random weights (the paper fine-tunes)",
       {"model.name=networks-vit-small-patch16-224", "data.resize=224", "train.eps=2/255",
        "train.epochs=10"},
       {"train.epochs=200"},
       length(10, 15000, "300"),
       length(10, 7500, "150")},
  };
  return all;
}

const std::vector<Method> kMethods = {
    {"rt-er", "RT-ER: the mixture and each second expert", Terms::second, false, {}},
    {"rt-er-paper",
     "RT-ER with a router that learns",
     Terms::second,
     false,
     {"model.router=trained", "train.gate=through"}},
    {"rt-er-released", "RT-ER as released", Terms::second, true, {}},
    {"jtdmoe",
     "JTDMoE: two such mixtures, a robust and a standard one in turns",
     Terms::all,
     false,
     {"train.method=jtdmoe", "train.kl_experts=all"}},
    {"jtdmoe-paper",
     "JTDMoE with routers that learn and the KL term of each second expert",
     Terms::second,
     false,
     {"train.method=jtdmoe", "model.router=trained", "train.gate=through"}},
    {"jtdmoe-released",
     "JTDMoE as released",
     Terms::all,
     true,
     {"train.method=jtdmoe", "train.kl_experts=all"}},
};

}  // namespace

std::vector<Recipe> networks_recipes() {
  std::vector<Recipe> all;
  for (const Mixture& mixture : mixtures()) {
    const PresetData& data = preset_data(mixture.data);
    for (const Method& method : kMethods) {
      const auto released = method.is_released ? mixture.released : std::vector<std::string>{};
      add_with_short(
          all,
          {data.family,
           {joined({data.name, method.name}), mixture.title + ", " + method.about},
           "",
           together({data.settings, kShared, mixture.settings, method.settings, released})},
          method.terms == Terms::all ? mixture.all : mixture.second);
    }
  }
  return all;
}

}  // namespace moat::train
