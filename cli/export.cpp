#include <memory>
#include <nlohmann/json.hpp>

#include "cli/model_options.h"
#include "cli/session.h"
#include "engine/names.h"
#include "models/name_map.h"

namespace moat::cli {

using namespace engine;
namespace fs = std::filesystem;

namespace {

struct ExportOptions {
  std::vector<std::string> given;  // a run or checkpoint, and settings; with --model these alone
  std::string output, project = "moat";
  ModelOptions model;
};

// With the router's pool as it was chosen, so that the file says all.
models::ClassifierSettings resolved(models::Classifier& model) {
  models::ClassifierSettings s = model.settings();
  if (s.dual) {
    models::DualSettings parts = *s.dual;
    parts.standard = resolved(model.standard());
    parts.robust = resolved(model.robust());
    s.dual = std::make_shared<const models::DualSettings>(parts);
  } else if (!s.router.blocks.empty()) {
    s.router.pool = model.router_pool();
  }
  return s;
}

models::LoadedModel subject_of(const ExportOptions& options, const Globals& globals) {
  if (options.model.name.empty()) {
    if (options.given.empty())
      throw UsageError("give one run folder or checkpoint, or --model NAME");
    return std::move(
        open_subject({options.given[0], {options.given.begin() + 1, options.given.end()}}, globals)
            .loaded);
  }
  ModelOptions fresh = options.model;
  fresh.settings = options.given;
  return {models::Classifier(resolve(fresh), globals.seed.value_or(0)), {}};
}

void export_command(const ExportOptions& options, const Globals& globals) {
  require_new_file(options.output);
  const models::Project& project = models::find_project(options.project);
  models::LoadedModel loaded = subject_of(options, globals);
  models::Classifier& model = loaded.model;
  SafeTensors file;
  if (options.project == models::projects().front().name) {
    file = models::to_file(model, loaded.metadata);
    file.metadata["architecture"] = models::architecture_json(resolved(model));
  } else {
    file = models::export_as(model, project);
  }
  write_safetensors(options.output, file);
  print(globals,
        {{"model", model.settings().name},
         {"names", project.name},
         {"tensors", file.tensors.size()},
         {"out", options.output}},
        text("exported '", model.settings().name, "', ", file.tensors.size(),
             " tensors with the names of ", project.name, ": ", options.output, "\n"));
}

}  // namespace

void add_export(CLI::App& app, Globals& globals) {
  const auto o = std::make_shared<ExportOptions>();
  CLI::App& command = add_command(
      app, globals,
      {"export", "a model as safetensors, with the names and layouts of another project",
       "moat export runs/wrn-1 --names robustbench --out wrn.safetensors"},
      [o, &globals] { export_command(*o, globals); });
  std::vector<std::string> names;
  for (const models::Project& project : models::projects()) names.push_back(project.name);
  command.add_option("run", o->given,
                     "run folder or checkpoint, and of a v-moe model.capacity, model.group or "
                     "model.priority=value; with --model model.key=value …");
  command.add_option("--out", o->output, "safetensors to write")->required();
  command.add_option("--names", o->project, "whose: " + listed(names));
  command.add_option("--model", o->model.name, "a fresh model of the zoo, drawn with --seed");
  add_image_option(command, o->model);
}

}  // namespace moat::cli
