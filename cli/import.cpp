#include <cmath>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/model_options.h"
#include "engine/names.h"
#include "engine/nn/module.h"
#include "models/name_map.h"

namespace moat::cli {

using namespace engine;
namespace fs = std::filesystem;

namespace {

struct ImportOptions {
  std::string input, output, project = "auto";
  ModelOptions model;
  std::vector<double> mean, deviation;
};

// PyTorch's own files are archives of pickles, and reading a pickle runs what is in it.
bool looks_like_pickle(const std::string& path) {
  constexpr char kProtocol = '\x80', kFirst = 2, kLast = 5;
  std::ifstream file(path, std::ios::binary);
  char start[2] = {};
  file.read(start, sizeof start);
  const bool is_archive = start[0] == 'P' && start[1] == 'K';
  return is_archive || (start[0] == kProtocol && start[1] >= kFirst && start[1] <= kLast);
}

SafeTensors read(const std::string& path) {
  try {
    return read_safetensors(path);
  } catch (const Error&) {  // a header's length may look like anything, so only then
    if (!looks_like_pickle(path)) throw;
    throw Error(text("'", path,
                     "' is a pickle, which can run any program and is never read; convert it where "
                     "you trust it: python3 -c \"import torch, safetensors.torch as s; "
                     "s.save_file(torch.load('",
                     path, "', map_location='cpu'), 'model.safetensors')\""));
  }
}

void check(const ImportOptions& o) {
  if (o.mean.size() != o.deviation.size())
    throw UsageError("--mean and --std must have one number per channel each");
  for (size_t i = 0; i < o.mean.size(); ++i)
    if (!std::isfinite(o.mean[i]) || !(o.deviation[i] > 0) || !std::isfinite(o.deviation[i]))
      throw UsageError(text("--mean must be finite and --std above 0, got ", o.mean[i], " and ",
                            o.deviation[i]));
  require_new_file(o.output);
  if (o.project != "auto") models::find_project(o.project);
}

std::string numbers(const std::vector<double>& values) {
  std::string line;
  for (double value : values) line += text(line.empty() ? "" : ",", value);
  return line;
}

void import_command(const ImportOptions& o, const Globals& globals) {
  check(o);
  models::ClassifierSettings settings = resolve(o.model);
  settings.mean = o.mean;
  settings.deviation = o.deviation;
  models::Imported imported = models::import_model(read(o.input), settings, o.project, o.input);
  const models::ClassifierSettings& s = imported.model.settings();
  write_safetensors(o.output, models::to_file(imported.model, {}));
  const std::string unused = imported.unused.empty()
                                 ? ""
                                 : text(", ", imported.unused.size(), " tensors are no part of it");
  print(globals,
        {{"model", s.name},
         {"map", imported.project},
         {"parameters", count_parameters(imported.model)},
         {"input", {s.channels, s.height, s.width}},
         {"classes", s.classes},
         {"mean", s.mean},
         {"std", s.deviation},
         {"unused", imported.unused},
         {"out", o.output}},
        text("imported '", s.name, "' by the names of ", imported.project, unused, "; ",
             s.mean.empty()
                 ? "no normaliser"
                 : text("normaliser: mean ", numbers(s.mean), ", std ", numbers(s.deviation)),
             ": ", o.output, "\n"));
}

}  // namespace

void add_import(CLI::App& app, Globals& globals) {
  const auto o = std::make_shared<ImportOptions>();
  CLI::App& command = add_command(
      app, globals,
      {"import", "a checkpoint from another project's safetensors",
       "moat import wrn.safetensors --as wrn-28-10 --map robustbench --out wrn-moat.safetensors"},
      [o, &globals] { import_command(*o, globals); });
  std::vector<std::string> names = {"auto"};
  for (const models::Project& project : models::projects()) names.push_back(project.name);
  command.add_option("file", o->input, "a state_dict as safetensors")->required();
  command.add_option("settings", o->model.settings, "model.key=value …");
  command.add_option("--as", o->model.name, "the model of the zoo that it is")->required();
  command.add_option("--out", o->output, "checkpoint to write")->required();
  command.add_option("--map", o->project, "whose names it has: " + listed(names));
  command
      .add_option("--mean", o->mean,
                  "of the normaliser, per channel; as the file says unless given")
      ->delimiter(',');
  command.add_option("--std", o->deviation, "its deviations")->delimiter(',');
  add_image_option(command, o->model);
}

}  // namespace moat::cli
