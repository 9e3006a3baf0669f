#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "engine/io/json.h"
#include "models/checkpoint.h"
#include "models/json_reader.h"

namespace moat::models {

using namespace engine;
using nlohmann::ordered_json;

namespace {

constexpr int kMaxWidth = 8192, kMaxBlocks = 1000, kMaxClasses = 1000000, kMaxSide = 4096,
              kMaxExperts = 64, kMaxTokenExperts = 4096;
constexpr const char* kDual = "dual";

// The names of an enum's values, in their order.
const std::vector<std::string> kFamilies = {"resnet", "wide-resnet", "preact-resnet",
                                            "vgg",    "densenet",    "vit"},
                               kBlocks = {"basic", "bottleneck"}, kStems = {"cifar", "imagenet"},
                               kShortcuts = {"projection", "pad"},
                               kTransitions = {"activated", "raw", "raw-shortcut"},
                               kHeadNorms = {"batch", "none"}, kVggHeads = {"cifar", "imagenet"},
                               kGates = {"straight-through", "softmax"},
                               kExperts = {"convolutions", "networks"},
                               kAverages = {"logits", "probabilities"},
                               kPriorities = {"order", "best-gate"};
// The activations of a transformer's MLPs.
const std::map<std::string, ExpertActivation> kActivations = {
    {"relu", ExpertActivation::relu},
    {"gelu", ExpertActivation::gelu},
    {"gelu-tanh", ExpertActivation::gelu_tanh}};

template <class Enum>
const std::string& name_of(Enum value, const std::vector<std::string>& names) {
  return names.at(static_cast<size_t>(value));
}

template <class Enum>
Enum read(const Reader& r, const char* key, const std::vector<std::string>& names) {
  return static_cast<Enum>(r.choice(key, names));
}
// A key that files hold only where it differs from the default.
template <class Enum>
Enum read_or(const Reader& r, const char* key, const std::vector<std::string>& names,
             Enum missing) {
  return r.has(key) ? read<Enum>(r, key, names) : missing;
}

ordered_json router_json(const RouterSettings& s) {
  ordered_json j = {{"blocks", s.blocks}, {"widths", s.widths}, {"score_norm", s.score_norm}};
  if (s.pool != 0) j["pool"] = s.pool;
  if (!s.trained) j["trained"] = false;
  return j;
}

RouterSettings parse_router(const ordered_json& json, const std::string& at) {
  const Reader r(json, at);
  RouterSettings s;
  s.blocks = r.integers("blocks", 1, kMaxBlocks, Reader::Empty::allowed);
  s.widths = r.integers("widths", 1, kMaxWidth, Reader::Empty::allowed);
  s.score_norm = r.flag("score_norm");
  if (r.has("pool")) s.pool = r.integer("pool", 0, kMaxSide);
  if (r.has("trained")) s.trained = r.flag("trained");
  require(s.blocks.size() == s.widths.size(),
          [&] { return at + ".blocks must be as long as router.widths"; });
  return s;
}

ordered_json transformer_json(const TransformerShape& s) {
  ordered_json j = {{"patch", s.patch}, {"heads", s.heads}};
  for (const auto& [name, activation] : kActivations)
    if (activation == s.activation) j["activation"] = name;
  const TokenExperts& moe = s.moe;
  if (moe.blocks.empty()) return j;
  j["moe"] = {{"blocks", moe.blocks}, {"experts", moe.experts},
              {"active", moe.active}, {"capacity", moe.capacity},
              {"group", moe.group},   {"priority", name_of(moe.priority, kPriorities)},
              {"noise", moe.noise},   {"importance", moe.importance},
              {"load", moe.load},     {"balance", moe.balance}};
  return j;
}

TransformerShape parse_transformer(const ordered_json& json, const std::string& at, int depth) {
  const Reader r(json, at);
  TransformerShape s;
  s.patch = r.integer("patch", 1, kMaxSide);
  s.heads = r.integer("heads", 1, kMaxWidth);
  std::vector<std::string> names;
  for (const auto& named : kActivations) names.push_back(named.first);
  s.activation = kActivations.at(names.at(r.choice("activation", names)));
  if (!r.has("moe")) return s;
  const Reader moe(r.member("moe"), at + ".moe");
  s.moe.blocks = moe.integers("blocks", 0, depth - 1);
  require(std::is_sorted(s.moe.blocks.begin(), s.moe.blocks.end()),
          [&] { return at + ".moe: blocks must ascend"; });
  s.moe.experts = moe.integer("experts", 2, kMaxTokenExperts);
  s.moe.active = moe.integer("active", 1, s.moe.experts);
  s.moe.capacity = moe.number("capacity", 0, 1e6);
  s.moe.group = moe.integer("group", 0, 1 << 20);
  s.moe.priority = read<Priority>(moe, "priority", kPriorities);
  s.moe.noise = moe.number("noise", 0, 1e3);
  s.moe.importance = moe.number("importance", 0, 1e3);
  s.moe.load = moe.number("load", 0, 1e3);
  s.moe.balance = moe.number("balance", 0, 1e3);
  return s;
}

ordered_json to_json(const ClassifierSettings& s) {
  if (s.dual)
    return {{"family", kDual},
            {"name", s.name},
            {"alpha", s.dual->alpha},
            {"average", name_of(s.dual->average, kAverages)},
            {"standard", to_json(s.dual->standard)},
            {"robust", to_json(s.dual->robust)}};
  ordered_json j = {{"family", name_of(s.family, kFamilies)},
                    {"name", s.name},
                    {"blocks", s.blocks},
                    {"widths", s.widths},
                    {"stem_width", s.stem_width},
                    {"scaled_stem", s.scaled_stem},
                    {"in_channels", s.channels},
                    {"classes", s.classes},
                    {"shortcut", name_of(s.shortcut, kShortcuts)},
                    {"experts", s.experts},
                    {"ratio", s.ratio},
                    {"image", {s.height, s.width}}};
  if (s.block != Block::basic) j["block"] = name_of(s.block, kBlocks);
  if (s.stem != Stem::cifar) j["stem"] = name_of(s.stem, kStems);
  if (s.transition != Transition::activated) j["transition"] = name_of(s.transition, kTransitions);
  if (s.head_norm != HeadNorm::batch) j["head_norm"] = name_of(s.head_norm, kHeadNorms);
  if (s.vgg_head != VggHead::cifar) j["vgg_head"] = name_of(s.vgg_head, kVggHeads);
  if (s.kept < 1) j["kept"] = s.kept;
  if (s.family == Family::vit) j["transformer"] = transformer_json(s.transformer);
  if (s.experts > 1) {
    if (s.experts_are != Experts::convolutions) j["experts_are"] = name_of(s.experts_are, kExperts);
    if (s.active > 1) j["active"] = s.active;
    j["gate"] = name_of(s.gate, kGates);
    j["router"] = router_json(s.router);
  }
  return j;
}

std::string parse_name(const Reader& r, const std::string& at) {
  require(r.member("name").is_string(), [&] { return at + ": name must be a text"; });
  return r.member("name").get<std::string>();
}

// Of a model that is not a dual one.
ClassifierSettings parse_plain(const ordered_json& json, const std::string& at) {
  const Reader r(json, at);
  ClassifierSettings s;
  s.family = read<Family>(r, "family", kFamilies);
  s.name = parse_name(r, at);
  s.blocks = r.integers("blocks", 1, kMaxBlocks);
  s.widths = r.integers("widths", 1, kMaxWidth);
  s.stem_width = r.integer("stem_width", 1, kMaxWidth);
  s.scaled_stem = r.flag("scaled_stem");
  s.channels = r.integer("in_channels", 1, kMaxWidth);
  s.classes = r.integer("classes", 2, kMaxClasses);
  s.shortcut = read<Shortcut>(r, "shortcut", kShortcuts);
  s.block = read_or(r, "block", kBlocks, Block::basic);
  s.stem = read_or(r, "stem", kStems, Stem::cifar);
  s.transition = read_or(r, "transition", kTransitions, Transition::activated);
  s.head_norm = read_or(r, "head_norm", kHeadNorms, HeadNorm::batch);
  s.vgg_head = read_or(r, "vgg_head", kVggHeads, VggHead::cifar);
  if (r.has("kept")) s.kept = r.number("kept", 1e-3, 1);
  if (s.family == Family::vit)
    s.transformer =
        parse_transformer(r.member("transformer"), at + ": transformer", s.blocks.front());
  s.experts = r.integer("experts", 1, kMaxExperts);
  s.ratio = r.number("ratio", 1e-3, 1);
  const std::vector<int> image = r.integers("image", 1, kMaxSide);
  require(image.size() == 2 && s.blocks.size() == s.widths.size(),
          [&] { return at + ": image must be [height, width] and blocks as long as widths"; });
  s.height = image[0];
  s.width = image[1];
  require(static_cast<int>(s.ratio * s.stem_width) >= 1 &&
              static_cast<int>(s.ratio * *std::min_element(s.widths.begin(), s.widths.end())) >= 1,
          [&] { return at + ": ratio leaves a layer without channels"; });
  require(s.kept == 1 || s.experts == 1,
          [&] { return at + ": kept must be 1 for a mixture of experts"; });
  if (s.experts == 1) return s;
  s.experts_are = read_or(r, "experts_are", kExperts, Experts::convolutions);
  if (r.has("active")) s.active = r.integer("active", 1, s.experts);
  s.gate = read<GateForm>(r, "gate", kGates);
  s.router = parse_router(r.member("router"), at + ": router");
  return s;
}

ClassifierSettings parse_dual(const ordered_json& json, const std::string& at) {
  const Reader r(json, at);
  const DualSettings dual{.standard = parse_plain(r.member("standard"), at + ": standard"),
                          .robust = parse_plain(r.member("robust"), at + ": robust"),
                          .alpha = r.number("alpha", 0, 1),
                          .average = read<Average>(r, "average", kAverages)};
  const ClassifierSettings &a = dual.standard, &b = dual.robust;
  require(a.height == b.height && a.width == b.width && a.channels == b.channels &&
              a.classes == b.classes,
          [&] { return at + ": standard and robust must take the same images and classes"; });
  return dual_of(parse_name(r, at), dual);
}

}  // namespace

std::string architecture_json(const ClassifierSettings& s) { return to_json(s).dump(); }

ClassifierSettings parse_architecture(const std::string& json, const std::string& origin) {
  const std::string at = origin + ": architecture";
  const auto j = parse_json<ordered_json>(json, at);
  const bool is_dual = j.contains("family") && j["family"] == kDual;
  return is_dual ? parse_dual(j, at) : parse_plain(j, at);
}

}  // namespace moat::models
