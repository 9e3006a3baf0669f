#include "cli/report/conditions.h"

#include <filesystem>

#include "engine/error.h"

namespace moat::cli::report {

using engine::text;

Conditions ball_and_images(const Evaluation& e) {
  const JsonView root(e.report, e.folder / "report.json");
  const auto entry = [&](const char* section, const char* key) {
    const auto part = root.find(section);
    const auto value = part ? part->find(key) : std::nullopt;
    return value ? value->json().dump() : text("unknown in ", e.folder.string());
  };
  return {{"norm", entry("threat", "norm")},
          {"eps", entry("threat", "eps")},
          {"images", text(entry("data", "sha256"), " ", e.n)}};
}

Conditions conditions_of(const Evaluation& e) {
  Conditions out = ball_and_images(e);
  const auto model = JsonView(e.report, e.folder / "report.json").find("model");
  const std::filesystem::path file = model ? model->str_or("file", "") : "";
  out.emplace_back("checkpoints", file.empty() ? text("unknown in ", e.folder.string())
                                               : text(file.filename().string(), " ",
                                                      model->str_or("selected_on", "")));
  return out;
}

Conditions clean_conditions_of(const Evaluation& e) {
  Conditions out = conditions_of(e);
  std::erase_if(out, [](const auto& c) { return c.first == "norm" || c.first == "eps"; });
  return out;
}

std::string differing(const Conditions& a, const Conditions& b) {
  std::vector<std::string> names;
  for (size_t i = 0; i < a.size(); ++i)
    if (a[i] != b.at(i)) names.push_back(a[i].first);
  std::string out;
  for (size_t i = 0; i < names.size(); ++i)
    out += (i == 0 ? "" : i + 1 == names.size() ? " and " : ", ") + names[i];
  return out;
}

}  // namespace moat::cli::report
