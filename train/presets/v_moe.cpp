#include "train/presets/recipe.h"

namespace moat::train {

namespace {

// A transformer, its mixture, and a deeper transformer of the mixture's cost per image.
struct Transformer {
  std::string name, title, size, images;  // "vit-<size>-<images>" and so on in the zoo
};

struct Method {
  std::string net, title, method, about;
  std::string net_of(const Transformer& t) const {
    return net == "vit-deep" ? "vit-" + t.size + "-deep-" + t.images
                             : net + "-" + t.size + "-" + t.images;
  }
  std::vector<std::string> settings;
};

// The study starts from pre-training on JFT, and no recipe of its adversarial training is
// published. Here are V-MoE's of ImageNet from scratch (S/32: 300 epochs, Adam, 3e-3 for batches of
// 8192, 10,000 of them to warm up, then on a line to 1e-5, crops of at least .05 of an image, in
// evaluation the middle 224 of a shorter side of 256, mixup .2, a decay of .1 of kernels alone,
// norm 1; not its RandAugment and sigmoid loss), for batches of 1024, and the attack's defaults:
// eps 1/255 in 40 steps of eps/40.
const std::vector<std::string> kShared = {
    "model.normalize=data",
    "data.resize_by=shorter-side",
    "data.augment=resized-crop-flip",
    "data.least_area=0.05",
    "data.mixup=0.2",
    "train.method=at",
    "train.epochs=300",
    "train.batch=1024",
    "train.eps=1/255",
    "train.steps=40",
    "train.step=1/10200",
    "train.optimizer=adamw",
    "train.learning_rate=3.75e-4",
    "train.warmup_epochs=64",
    "train.schedule=linear",
    "train.weight_decay=0.1",
    "train.decay=kernels",
    "train.clip_norm=1",
};

const std::vector<Transformer> kTransformers = {{"s16", "S/16", "small", "patch16-224"},
                                                {"b32", "B/32", "base", "patch32-224"}};

const std::vector<Method> kMethods = {
    {"vit", "ViT-", "at", ", adversarial training (PGD-40, eps 1/255)", {}},
    {"vit-deep", "ViT of V-MoE's cost, ", "at", ", adversarial training", {}},
    {"v-moe", "V-MoE-", "at", ", adversarial training", {}},
    {"v-moe",
     "V-MoE-",
     "at-auxiliary",
     ", adversarial training with the gates' losses in the attack",
     {"train.attack_auxiliary=1"}},
};

}  // namespace

std::vector<Recipe> v_moe_recipes() {
  const PresetData& data = preset_data("imagenet");
  // 83 passes of up to 6.00 G (V-MoE-S/16) x 6.4 us / G = 3.2 ms of an image: 239 s.
  const ShortLength length{15, 5000, {"train.learning_rate=1.875e-4", "train.warmup_epochs=3"}};
  std::vector<Recipe> all;
  for (const Transformer& size : kTransformers)
    for (const Method& method : kMethods)
      add_with_short(
          all,
          {data.family,
           {joined({data.name, method.net, size.name, method.method}),
            method.title + size.title + method.about +
                "; from scratch, not comparable: the study starts from JFT"},
           "",
           together(
               {data.settings, kShared, {"model.name=" + method.net_of(size)}, method.settings})},
          length);
  return all;
}

}  // namespace moat::train
