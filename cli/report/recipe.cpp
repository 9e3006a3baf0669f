#include "cli/report/recipe.h"

namespace moat::cli::report {

namespace fs = std::filesystem;

namespace {

constexpr int kLongestChain = 16;  // of runs that start with each other's weights

std::string entry(const Json& config, const fs::path& folder, const char* section,
                  const char* key) {
  const auto part = JsonView(config, folder / "config.json").find(section);
  return part ? part->str_or(key, "") : "";
}

// `left`: links of the chain that may still be followed.
Json recipe(Json config, const fs::path& folder, int left) {
  const fs::path start = entry(config, folder, "train", "start");
  const bool is_file = start.extension() == ".safetensors";  // RUN/checkpoints/best.safetensors
  const fs::path given = is_file ? start.parent_path().parent_path() : start;
  // As it lies from this run's folder, should both have been moved, or as it was given.
  const fs::path from_here = given.lexically_relative(entry(config, folder, "run", "dir"));
  for (const fs::path& at : {from_here.empty() ? given : folder / from_here, given})
    if (!start.empty() && left > 0 && fs::is_regular_file(at / "config.json")) {
      config["train"]["start"] = {{"checkpoint", is_file ? start.filename().string() : ""},
                                  {"recipe", recipe(read_json(at / "config.json"), at, left - 1)}};
      break;
    }
  for (const char* other : {"run", "eval", "tool", "machine"}) config.erase(other);
  // `architecture` tells what came of these two; older runs have other words for the same.
  if (config.contains("architecture") && config.contains("model") && config["model"].is_object())
    for (const char* key : {"gate", "score_norm"}) config["model"].erase(key);
  return config;
}

}  // namespace

std::string recipe_of(const Run& run) {
  return recipe(run.config, run.folder, kLongestChain).dump();
}

std::string seed_of(const Run& run) { return entry(run.config, run.folder, "run", "seed"); }

}  // namespace moat::cli::report
