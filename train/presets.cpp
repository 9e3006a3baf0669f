#include "train/presets.h"

#include <algorithm>

#include "engine/error.h"
#include "engine/names.h"
#include "train/presets/recipe.h"

namespace moat::train {

namespace {

// Those of a family side by side.
std::vector<Recipe> make_recipes() {
  std::vector<Recipe> all;
  for (auto* part : {digits_recipes, cnn_recipes, networks_recipes, v_moe_recipes})
    for (Recipe& recipe : part()) {
      const auto last = std::find_if(all.rbegin(), all.rend(), [&](const Recipe& other) {
        return other.family == recipe.family;
      });
      all.insert(last == all.rend() ? all.end() : last.base(), std::move(recipe));
    }
  return all;
}

const std::vector<Recipe>& recipes() {
  static const std::vector<Recipe> all = make_recipes();
  return all;
}

}  // namespace

const std::vector<PresetFamily>& preset_families() {
  static const std::vector<PresetFamily> families = [] {
    std::vector<PresetFamily> all;
    for (const Recipe& recipe : recipes()) {
      if (all.empty() || all.back().title != recipe.family) all.push_back({recipe.family, {}});
      all.back().rows.push_back(recipe.row);
    }
    return all;
  }();
  return families;
}

const std::vector<PresetRow>& presets() {
  static const std::vector<PresetRow> rows = [] {
    std::vector<PresetRow> all;
    for (const Recipe& recipe : recipes()) all.push_back(recipe.row);
    return all;
  }();
  return rows;
}

Config preset(const std::string& name) {
  const auto recipe =
      std::ranges::find(recipes(), name, [](const Recipe& r) { return r.row.name; });
  if (recipe == recipes().end()) {
    std::vector<std::string> known;
    for (const Recipe& r : recipes()) known.push_back(r.row.name);
    throw engine::UsageError(engine::text("the preset must be one of the ", known.size(),
                                          " that moat train --presets lists; got '", name, "'",
                                          engine::suggestion(name, known)));
  }
  Config config = recipe->from.empty() ? Config{} : preset(recipe->from);
  for (const std::string& setting : recipe->settings) config = override_with(config, setting);
  config.preset = name;
  return config;
}

}  // namespace moat::train
