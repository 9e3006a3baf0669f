#include "models/zoo.h"

#include "engine/names.h"

namespace moat::models {

namespace {

ClassifierSettings resnet(const std::string& name, std::vector<int> blocks,
                          std::vector<int> widths) {
  ClassifierSettings s;
  s.name = name;
  s.blocks = std::move(blocks);
  s.stem_width = widths.at(0);
  s.widths = std::move(widths);
  return s;
}

ClassifierSettings bottleneck(ClassifierSettings s) {
  s.block = Block::bottleneck;
  return s;
}

ClassifierSettings wide_resnet(const std::string& name, int depth, int factor) {
  const int blocks = (depth - 4) / 6;
  ClassifierSettings s =
      resnet(name, {blocks, blocks, blocks}, {16 * factor, 32 * factor, 64 * factor});
  s.family = Family::wide_resnet;
  s.stem_width = 16;
  return s;
}

ClassifierSettings preact(ClassifierSettings s) {
  s.name = "preact-" + s.name;
  s.family = Family::preact_resnet;
  return s;
}

// As in fast_adversarial, the release of Wong et al. 2020.
ClassifierSettings raw_shortcut(ClassifierSettings s) {
  s.name += "-raw-shortcut";
  s.transition = Transition::raw_shortcut;
  return s;
}

ClassifierSettings vgg(const std::string& name, std::vector<int> convolutions) {
  ClassifierSettings s = resnet(name, std::move(convolutions), {64, 128, 256, 512, 512});
  s.family = Family::vgg;
  return s;
}

ClassifierSettings densenet(const std::string& name, std::vector<int> layers, int growth) {
  const std::vector<int> growths(layers.size(), growth);
  ClassifierSettings s = resnet(name, std::move(layers), growths);
  s.family = Family::densenet;
  s.stem_width = 2 * growth;
  return s;
}

ClassifierSettings vit(const std::string& name, int width, int heads, int patch, int side) {
  constexpr int kDepth = 12;
  ClassifierSettings s =
      resnet("vit-" + name + "-patch" + std::to_string(patch) + "-" + std::to_string(side),
             {kDepth}, {width});
  s.family = Family::vit;
  s.transformer.patch = patch;
  s.transformer.heads = heads;
  s.height = s.width = side;
  return s;
}

// A dense twin of about the cost of a mixture: two experts a token in every other block are half an
// MLP a block more, as a third more blocks are.
ClassifierSettings deep(ClassifierSettings s) {
  const size_t at = s.name.find("-patch");
  s.name.insert(at == std::string::npos ? s.name.size() : at, "-deep");
  s.blocks.at(0) += (s.blocks.at(0) + 1) / 3;
  return s;
}

// V-MoE: eight experts, two for a token, in every other block from the second.
ClassifierSettings token_moe(ClassifierSettings s) {
  s.name = "v-moe" + s.name.substr(std::string("vit").size());
  s.transformer.activation = engine::ExpertActivation::gelu_tanh;
  for (int b = 1; b < s.blocks.at(0); b += 2) s.transformer.moe.blocks.push_back(b);
  return s;
}

// For images of 224 x 224 in 1000 classes.
ClassifierSettings imagenet(ClassifierSettings s, const std::string& name) {
  s.name = name;
  s.stem = Stem::imagenet;
  s.height = s.width = 224;
  s.classes = 1000;
  return s;
}

// Two experts of half width and AdvMoE's router, a CIFAR ResNet-20.
ClassifierSettings moe(ClassifierSettings s) {
  s.name = "moe-" + s.name;
  s.experts = 2;
  s.ratio = 0.5;
  s.router.blocks = {3, 3, 3};
  s.router.widths = {16, 32, 64};
  return s;
}

// What the AdvMoE release does: straight-through gradient on raw scores without a norm, initial
// filters counted over the whole bank, a residual net's stem at full width, a wide one's
// transitions without their norm, a DenseNet's experts at full width, a router that sees every
// pixel.
ClassifierSettings as_released(ClassifierSettings s) {
  s.name += "-released";
  s.router.score_norm = false;
  s.router.pool = 1;
  s.gate = GateForm::raw;
  s.init = Init::kaiming_bank;
  if (s.family == Family::resnet && s.stem == Stem::cifar) s.scaled_stem = false;
  if (s.family == Family::wide_resnet) s.transition = Transition::raw;
  if (s.family == Family::densenet) s.ratio = 1;
  return s;
}

// Four whole networks; which one sees an image is a fixed random linear map of its pixels.
ClassifierSettings networks(ClassifierSettings s) {
  s.name = "networks-" + s.name;
  s.experts = 4;
  s.experts_are = Experts::networks;
  s.router = {.score_norm = false, .trained = false};
  return s;
}

// The bundled digits.
ClassifierSettings on_digits(ClassifierSettings s, const std::string& name) {
  s.name = name;
  s.height = s.width = 8;
  s.channels = 1;
  return s;
}

std::vector<ZooRow> make_zoo() {
  const auto resnet14 = resnet("resnet14", {2, 2, 2}, {16, 32, 64});
  auto moe_resnet14 = moe(resnet14);
  moe_resnet14.router.blocks = {1, 1, 1};
  moe_resnet14.router.widths = {8, 16, 32};
  const auto digits = on_digits(resnet14, "digits-resnet");
  auto resnet20 = resnet("resnet20", {3, 3, 3}, {16, 32, 64});
  resnet20.shortcut = Shortcut::pad;
  const auto resnet18 = resnet("resnet18", {2, 2, 2, 2}, {64, 128, 256, 512});
  const auto resnet34 = resnet("resnet34", {3, 4, 6, 3}, {64, 128, 256, 512});
  const auto resnet50 = bottleneck(resnet("resnet50", {3, 4, 6, 3}, {64, 128, 256, 512}));
  const auto preact18 = preact(resnet18);
  auto wong2020 = raw_shortcut(preact18);
  wong2020.name = preact18.name + "-wong2020";
  wong2020.head_norm = HeadNorm::none;
  const auto wrn = wide_resnet("wrn-28-10", 28, 10);
  const auto wrn34 = wide_resnet("wrn-34-10", 34, 10);
  const auto vgg16 = vgg("vgg16", {2, 2, 3, 3, 3});
  auto vgg16_imagenet = imagenet(vgg16, "vgg16-imagenet");
  vgg16_imagenet.stem = Stem::cifar;
  vgg16_imagenet.vgg_head = VggHead::imagenet;
  const auto densenet40 = densenet("densenet40", {6, 6, 6}, 12);
  const auto densenet121 =
      imagenet(densenet("densenet121", {6, 12, 24, 16}, 32), "densenet121-imagenet");
  auto digits_vit = on_digits(vit("tiny", 32, 2, 2, 8), "digits-vit");
  digits_vit.blocks = {4};
  auto digits_token_moe = token_moe(digits_vit);
  digits_token_moe.name = "digits-v-moe";
  digits_token_moe.transformer.moe.experts = 4;
  const auto thousand = [](ClassifierSettings s) {
    s.classes = 1000;
    return s;
  };
  const auto vit_small_224 = thousand(vit("small", 384, 6, 16, 224));
  const auto vit_base_224 = thousand(vit("base", 768, 12, 16, 224));
  const auto vit_base_32_224 = thousand(vit("base", 768, 12, 32, 224));
  const auto resnet18_imagenet = imagenet(resnet18, "resnet18-imagenet");
  const auto resnet50_imagenet = imagenet(resnet50, "resnet50-imagenet");
  const auto wrn_imagenet = imagenet(wrn, "wrn-28-10-imagenet");
  return {
      {digits, "small residual net for the bundled digits"},
      {on_digits(moe_resnet14, "digits-moe-resnet"),
       "its mixture of experts: 2 experts of half width, one image-level router"},
      {on_digits(networks(resnet14), "digits-networks-resnet"),
       "4 such nets, chosen by a fixed random linear map (RT-ER)"},
      {digits_vit, "small vision transformer for the digits"},
      {deep(digits_vit), "the same with a block more: about the cost of the mixture below"},
      {digits_token_moe, "the transformer with mixtures of 4 experts in every other block"},
      {resnet14, "narrow CIFAR ResNet-14, for two CPU cores"},
      {moe_resnet14, "its mixture of experts: 2 experts of half width, ResNet-8 router"},
      {resnet20, "CIFAR ResNet-20 with option-A shortcuts (He et al. 2016)"},
      {resnet18, "CIFAR ResNet-18"},
      {resnet34, "CIFAR ResNet-34"},
      {resnet50, "CIFAR ResNet-50"},
      {preact18, "CIFAR PreAct-ResNet-18"},
      {raw_shortcut(preact18), "the same, its projections before the norm (fast_adversarial)"},
      {wong2020, "the same without a norm before the head (RobustBench's Wong2020Fast)"},
      {wrn, "wide residual net WRN-28-10"},
      {wrn34, "wide residual net WRN-34-10"},
      {wide_resnet("wrn-34-15", 34, 15), "wide residual net WRN-34-15"},
      {wide_resnet("wrn-34-20", 34, 20), "wide residual net WRN-34-20"},
      {wide_resnet("wrn-70-16", 70, 16), "wide residual net WRN-70-16, with ReLU"},
      {vgg16, "VGG-16 with batch norm"},
      {densenet40, "DenseNet-BC of 40 layers, growth 12"},
      {moe(resnet18), "MoE-ResNet-18: 2 experts of half width in every block, ResNet-20 router"},
      {as_released(moe(resnet18)), "the same as the AdvMoE release builds it"},
      {moe(resnet34), "MoE-ResNet-34"},
      {moe(resnet50), "MoE-ResNet-50"},
      {moe(preact18), "MoE-PreAct-ResNet-18"},
      {moe(wrn), "MoE-WRN-28-10"},
      {as_released(moe(wrn)), "the same as the AdvMoE release builds it"},
      {moe(wrn34), "MoE-WRN-34-10"},
      {moe(vgg16), "MoE-VGG-16"},
      {as_released(moe(vgg16)), "the same as the AdvMoE release builds it"},
      {moe(densenet40), "MoE-DenseNet-BC-40"},
      {as_released(moe(densenet40)), "the same with experts of full width (the release fails)"},
      {networks(resnet18), "4 ResNet-18, chosen by a fixed random linear map (RT-ER)"},
      {resnet18_imagenet, "ResNet-18 for images of 224 x 224"},
      {resnet50_imagenet, "ResNet-50 for images of 224 x 224"},
      {wrn_imagenet, "WRN-28-10 for images of 224 x 224"},
      {vgg16_imagenet, "VGG-16 with batch norm for images of 224 x 224, without dropout"},
      {densenet121, "DenseNet-121 for images of 224 x 224"},
      {moe(resnet18_imagenet), "MoE-ResNet-18 for images of 224 x 224"},
      {as_released(moe(resnet18_imagenet)), "the same with a router that sees every pixel"},
      {moe(resnet50_imagenet), "MoE-ResNet-50 for images of 224 x 224"},
      {moe(wrn_imagenet), "MoE-WRN-28-10 for images of 224 x 224"},
      {moe(densenet121), "MoE-DenseNet-121 for images of 224 x 224"},
      {vit("tiny", 192, 3, 4, 32), "ViT-Ti with patches of 4 for images of 32 x 32"},
      {vit("small", 384, 6, 4, 32), "ViT-S with patches of 4 for images of 32 x 32"},
      {vit("tiny", 192, 3, 8, 64), "ViT-Ti with patches of 8 for images of 64 x 64"},
      {vit("small", 384, 6, 8, 64), "ViT-S with patches of 8 for images of 64 x 64"},
      {vit("base", 768, 12, 4, 32), "ViT-B with patches of 4 for images of 32 x 32"},
      {deep(vit("small", 384, 6, 4, 32)), "ViT-S of 16 blocks, as dear as V-MoE-S"},
      {deep(vit("small", 384, 6, 8, 64)), "ViT-S of 16 blocks, as dear as V-MoE-S"},
      {vit_small_224, "ViT-S/16 for images of 224 x 224"},
      {networks(vit_small_224), "4 ViT-S/16, chosen by a fixed random linear map (RT-ER)"},
      {deep(vit_small_224), "ViT-S/16 of 16 blocks, as dear as V-MoE-S/16"},
      {vit_base_224, "ViT-B/16 for images of 224 x 224"},
      {vit_base_32_224, "ViT-B/32 for images of 224 x 224"},
      {deep(vit_base_32_224), "ViT-B/32 of 16 blocks, as dear as V-MoE-B/32"},
      {token_moe(vit("tiny", 192, 3, 4, 32)), "V-MoE-Ti: 8 experts, 2 a token, every other block"},
      {token_moe(vit("small", 384, 6, 4, 32)), "V-MoE-S for images of 32 x 32"},
      {token_moe(vit("small", 384, 6, 8, 64)), "V-MoE-S for images of 64 x 64"},
      {token_moe(vit_small_224), "V-MoE-S/16 for images of 224 x 224"},
      {token_moe(vit_base_224), "V-MoE-B/16 for images of 224 x 224"},
      {token_moe(vit_base_32_224), "V-MoE-B/32 for images of 224 x 224"},
  };
}

}  // namespace

const std::vector<ZooRow>& zoo() {
  static const std::vector<ZooRow> rows = make_zoo();
  return rows;
}

const ZooRow& find_model(const std::string& name) {
  return engine::find_named("model", name, zoo(),
                            [](const ZooRow& row) { return row.settings.name; });
}

}  // namespace moat::models
