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

ClassifierSettings moe(ClassifierSettings s, const std::string& name,
                       std::vector<int> router_blocks, std::vector<int> router_widths) {
  s.name = name;
  s.experts = 2;
  s.ratio = 0.5;
  s.router_blocks = std::move(router_blocks);
  s.router_widths = std::move(router_widths);
  return s;
}

// Stem at full width, straight-through gradient on raw scores without a norm, initial filters
// counted over the whole bank: what the AdvMoE release does.
ClassifierSettings as_released(ClassifierSettings s, const std::string& name) {
  s.name = name;
  s.scaled_stem = false;
  s.score_norm = false;
  s.gate = GateForm::raw;
  s.init = Init::kaiming_bank;
  return s;
}

std::vector<ZooRow> make_zoo() {
  const auto digits = resnet("digits-resnet", {2, 2, 2}, {16, 32, 64});
  const auto resnet18 = resnet("resnet18", {2, 2, 2, 2}, {64, 128, 256, 512});
  const auto moe18 = moe(resnet18, "moe-resnet18", {3, 3, 3}, {16, 32, 64});
  auto resnet20 = resnet("resnet20", {3, 3, 3}, {16, 32, 64});
  resnet20.shortcut = Shortcut::pad;
  return {
      {digits, "small residual net for the bundled digits"},
      {moe(digits, "digits-moe-resnet", {1, 1, 1}, {8, 16, 32}),
       "its mixture of experts: 2 experts of half width, one image-level router"},
      {resnet20, "CIFAR ResNet-20 with option-A shortcuts (He et al. 2016)"},
      {resnet18, "CIFAR ResNet-18"},
      {resnet("resnet34", {3, 4, 6, 3}, {64, 128, 256, 512}), "CIFAR ResNet-34"},
      {moe18, "MoE-ResNet-18: 2 experts of half width in every block, ResNet-20 router"},
      {as_released(moe18, "moe-resnet18-released"),
       "the same as the AdvMoE release builds it: full-width stem, raw straight-through gate"},
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
