#include "models/settings.h"

namespace moat::models {

namespace {
int narrowed(int width, double ratio) {
  const int narrow = static_cast<int>(ratio * width);
  engine::require(narrow >= 1, [&] {
    return engine::text("model.ratio must leave a layer of ", width, " channels at least one, got ",
                        ratio, ": take at least ", 1.0 / width);
  });
  return narrow;
}
}  // namespace

NetShape net_shape(const ClassifierSettings& s) {
  NetShape shape{.family = s.family,
                 .blocks = s.blocks,
                 .widths = {},
                 .stem_width = s.scaled_stem ? narrowed(s.stem_width, s.ratio) : s.stem_width,
                 .block = s.block,
                 .stem = s.stem,
                 .shortcut = s.shortcut,
                 .transition = s.transition,
                 .head_norm = s.head_norm,
                 .vgg_head = s.vgg_head,
                 .in_channels = s.channels,
                 .height = s.height,
                 .width = s.width,
                 .outputs = s.classes,
                 .experts = s.experts_are == Experts::convolutions ? s.experts : 1,
                 .kept = s.kept,
                 .transformer = s.transformer};
  for (int width : s.widths) shape.widths.push_back(narrowed(width, s.ratio));
  return shape;
}

ClassifierSettings dual_of(const std::string& name, const DualSettings& parts) {
  ClassifierSettings s;
  s.name = name;
  s.dual = std::make_shared<const DualSettings>(parts);
  s.height = parts.standard.height;
  s.width = parts.standard.width;
  s.channels = parts.standard.channels;
  s.classes = parts.standard.classes;
  return s;
}

ClassifierSettings dense_twin(ClassifierSettings s) {
  if (s.dual) return dense_twin(s.dual->standard);
  s.experts = s.active = 1;
  s.experts_are = Experts::convolutions;
  s.ratio = s.kept = 1;
  s.scaled_stem = true;
  if (s.transition == Transition::raw) s.transition = Transition::activated;
  s.router = {};
  s.transformer.moe = {};
  return s;
}

}  // namespace moat::models
