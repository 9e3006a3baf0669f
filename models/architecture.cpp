#include <algorithm>

#include "engine/io/json.h"
#include "models/checkpoint.h"

namespace moat::models {

using namespace engine;
using nlohmann::ordered_json;

namespace {

constexpr int kMaxWidth = 8192, kMaxBlocks = 1000, kMaxClasses = 1000000, kMaxSide = 4096;

const char* name_of(Shortcut s) { return s == Shortcut::pad ? "pad" : "projection"; }
const char* name_of(GateForm g) { return g == GateForm::raw ? "straight-through" : "softmax"; }

// Reads typed, bounded members of one JSON object and names the culprit.
class Reader {
 public:
  Reader(const ordered_json& object, std::string at) : object_(object), at_(std::move(at)) {
    require(object.is_object(), [&] { return at_ + " must be a JSON object"; });
  }

  int integer(const char* key, int low, int high) const {
    return checked(member(key), key, low, high);
  }
  std::vector<int> integers(const char* key, int low, int high) const {
    const ordered_json& list = member(key);
    if (!list.is_array() || list.empty() || list.size() > 64)
      fail(key, "a list of 1 to 64 numbers");
    std::vector<int> out;
    for (const ordered_json& value : list) out.push_back(checked(value, key, low, high));
    return out;
  }
  double number(const char* key, double low, double high) const {
    const ordered_json& value = member(key);
    if (!value.is_number() || !(value.get<double>() >= low && value.get<double>() <= high))
      fail(key, text("a number from ", low, " to ", high));
    return value.get<double>();
  }
  bool flag(const char* key) const {
    if (!member(key).is_boolean()) fail(key, "true or false");
    return member(key).get<bool>();
  }
  // Index of the text in `choices`.
  size_t choice(const char* key, const std::vector<std::string>& choices) const {
    std::string known;
    for (size_t i = 0; i < choices.size(); ++i) {
      if (member(key) == choices[i]) return i;
      known += (i ? " or " : "") + choices[i];
    }
    fail(key, known);
  }
  const ordered_json& member(const char* key) const {
    const auto it = object_.find(key);
    require(it != object_.end(), [&] { return text(at_, " lacks the key '", key, "'"); });
    return *it;
  }

 private:
  [[noreturn]] void fail(const char* key, const std::string& expected) const {
    throw Error(text(
        at_, ": ", key, " must be ", expected, ", got ",
        member(key).dump(-1, ' ', false, ordered_json::error_handler_t::replace).substr(0, 60)));
  }
  int checked(const ordered_json& value, const char* key, int low, int high) const {
    if (!value.is_number_integer() || value.get<int64_t>() < low || value.get<int64_t>() > high)
      fail(key, text("a whole number from ", low, " to ", high));
    return value.get<int>();
  }
  const ordered_json& object_;
  std::string at_;
};

}  // namespace

std::string architecture_json(const ClassifierSettings& s) {
  ordered_json j = {{"family", "resnet"},
                    {"name", s.name},
                    {"blocks", s.blocks},
                    {"widths", s.widths},
                    {"stem_width", s.stem_width},
                    {"scaled_stem", s.scaled_stem},
                    {"in_channels", s.channels},
                    {"classes", s.classes},
                    {"shortcut", name_of(s.shortcut)},
                    {"experts", s.experts},
                    {"ratio", s.ratio},
                    {"image", {s.height, s.width}}};
  if (s.experts > 1) {
    j["gate"] = name_of(s.gate);
    j["router"] = {
        {"blocks", s.router_blocks}, {"widths", s.router_widths}, {"score_norm", s.score_norm}};
  }
  return j.dump();
}

ClassifierSettings parse_architecture(const std::string& json, const std::string& origin) {
  const std::string at = origin + ": architecture";
  const auto j = parse_json<ordered_json>(json, at);
  const Reader r(j, at);
  r.choice("family", {"resnet"});
  ClassifierSettings s;
  require(r.member("name").is_string(), [&] { return at + ": name must be a text"; });
  s.name = r.member("name").get<std::string>();
  s.blocks = r.integers("blocks", 1, kMaxBlocks);
  s.widths = r.integers("widths", 1, kMaxWidth);
  s.stem_width = r.integer("stem_width", 1, kMaxWidth);
  s.scaled_stem = r.flag("scaled_stem");
  s.channels = r.integer("in_channels", 1, kMaxWidth);
  s.classes = r.integer("classes", 2, kMaxClasses);
  s.shortcut = r.choice("shortcut", {"projection", "pad"}) ? Shortcut::pad : Shortcut::projection;
  s.experts = r.integer("experts", 1, 64);
  s.ratio = r.number("ratio", 1e-3, 1);
  const std::vector<int> image = r.integers("image", 1, kMaxSide);
  require(image.size() == 2 && s.blocks.size() == s.widths.size(),
          [&] { return at + ": image must be [height, width] and blocks as long as widths"; });
  s.height = image[0];
  s.width = image[1];
  require(static_cast<int>(s.ratio * s.stem_width) >= 1 &&
              static_cast<int>(s.ratio * *std::min_element(s.widths.begin(), s.widths.end())) >= 1,
          [&] { return at + ": ratio leaves a layer without channels"; });
  if (s.experts == 1) return s;
  s.gate = r.choice("gate", {"softmax", "straight-through"}) ? GateForm::raw : GateForm::softmax;
  const Reader router(r.member("router"), at + ": router");
  s.router_blocks = router.integers("blocks", 1, kMaxBlocks);
  s.router_widths = router.integers("widths", 1, kMaxWidth);
  s.score_norm = router.flag("score_norm");
  require(s.router_blocks.size() == s.router_widths.size(),
          [&] { return at + ": router.blocks must be as long as router.widths"; });
  return s;
}

}  // namespace moat::models
