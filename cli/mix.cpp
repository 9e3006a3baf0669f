#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "cli/curve_file.h"
#include "cli/evaluation.h"
#include "cli/image_options.h"
#include "cli/mix_curve.h"
#include "cli/number_format.h"
#include "cli/session.h"
#include "engine/io/file.h"
#include "engine/io/safetensors.h"
#include "engine/names.h"
#include "train/images.h"
#include "train/machine.h"
#include "train/numbers.h"
#include "train/run_folder.h"
#include "train/trained_classes.h"
#include "train/training_attack.h"

// moat mix: a standard and a robust model averaged with every weight of a grid (the dual model of
// Zhang et al. 2025), and what is left of clean and robust accuracy at each.

namespace moat::cli {

using engine::require;
using engine::text;
using nlohmann::ordered_json;
namespace fs = std::filesystem;

namespace {

struct MixOptions {
  std::string standard, robust, alpha = "0.5:1:0.1", on = "logits", out;
  std::string protocol, eps, data, data_path, save;
  std::optional<int64_t> limit;
};

void require_weight(double alpha) {
  if (alpha < 0 || alpha > 1)
    throw engine::UsageError(text("a weight of the robust model must be from 0 to 1, got ", alpha));
}

double parse_weight(const std::string& given) {
  const double alpha = train::parse_number(given, "--save");
  require_weight(alpha);
  return alpha;
}

std::vector<double> parse_weights(const std::string& given) {
  std::vector<double> weights = train::parse_numbers(given, "--alpha");
  for (double alpha : weights) require_weight(alpha);
  return weights;
}

models::Average parse_average(const std::string& name) {
  static constexpr std::pair<const char*, models::Average> rows[] = {
      {"logits", models::Average::logits}, {"probabilities", models::Average::probabilities}};
  return engine::find_named("--on", name, rows, [](const auto& row) { return row.first; }).second;
}

void require_alike(const Subject& standard, const Subject& robust) {
  const models::ClassifierSettings &a = standard.loaded.model.settings(),
                                   &b = robust.loaded.model.settings();
  for (const Subject* s : {&standard, &robust})
    require(!s->loaded.model.settings().dual, [&] {
      return text("'", s->file.string(), "' is a dual model already; mix takes its two parts");
    });
  require(a.height == b.height && a.width == b.width && a.channels == b.channels &&
              a.classes == b.classes,
          [&] {
            const auto shape = [](const models::ClassifierSettings& s) {
              return text(s.height, "x", s.width, "x", s.channels, " images of ", s.classes,
                          " classes");
            };
            return text("the two models must take the same images and classes: '",
                        standard.file.string(), "' takes ", shape(a), ", '", robust.file.string(),
                        "' ", shape(b));
          });
}

// Both models' tensors as the file of a dual one.
engine::SafeTensors tensors_of(Subject& standard, Subject& robust) {
  engine::SafeTensors file;
  models::store(standard.loaded.model, "standard.", file);
  models::store(robust.loaded.model, "robust.", file);
  return file;
}

void describe(engine::SafeTensors& file, const Subject& standard, const Subject& robust,
              double alpha, models::Average average) {
  file.metadata["architecture"] = models::architecture_json(models::dual_of(
      "dual-" + robust.loaded.model.settings().name, {.standard = standard.loaded.model.settings(),
                                                      .robust = robust.loaded.model.settings(),
                                                      .alpha = alpha,
                                                      .average = average}));
  const models::Metadata& own = robust.loaded.metadata;
  if (const auto classes = own.find(train::kClasses); classes != own.end())
    file.metadata[train::kClasses] = classes->second;
}

train::Config config_for(const MixOptions& options, const Subject& robust, const Globals& globals) {
  train::Config config = robust.config;
  if (!options.protocol.empty()) config.eval.protocol = options.protocol;
  if (!options.data.empty()) config.data.name = options.data;
  if (!options.data_path.empty()) config.data.path = options.data_path;
  config.eval.limit = options.limit.value_or(config.eval.limit);
  if (!options.eps.empty())
    config.eval.eps = train::parse_eps(options.eps, "--eps", config.train.norm);
  if (!options.eps.empty() && config.eval.eps == 0)
    throw engine::UsageError("--eps must be above 0, got 0; the clean accuracy is there anyway");
  if (config.eval.eps == 0) require_own_radius(robust, config.train.norm, "--eps");
  check_root(config.data.name, options.data_path, config.data.path);
  config.run = with_globals(config.run, globals);
  train::validate(config);
  return config;
}

void mix_command(const MixOptions& options, const Globals& globals) {
  const std::vector<double> weights = parse_weights(options.alpha);
  const models::Average average = parse_average(options.on);
  const double saved = options.save.empty() ? 0 : parse_weight(options.save);
  require_fp32(globals, "a protocol is always run");
  Subject standard = open_subject({options.standard}, globals),
          robust = open_subject({options.robust}, globals);
  require_alike(standard, robust);
  const train::Config config = config_for(options, robust, globals);
  set_up(config.run);
  const engine::Device device = robust.loaded.model.device();
  const data::ImageSet set = load_for(robust.loaded, config, config.eval.split, config.eval.limit);
  const attacks::ThreatModel threat = evaluation_threat(config);
  engine::SafeTensors file = tensors_of(standard, robust);
  const auto model_of = [&](double alpha) {
    describe(file, standard, robust, alpha, average);
    return models::from_file(file, options.out, device);
  };
  const auto protocol_of = [&](const models::Classifier& model) {
    return attacks::find_protocol(config.eval.protocol, threat, config.run.seed,
                                  train::attack_model(model));
  };
  const ordered_json protocol = attacks::constants_of(protocol_of(model_of(weights[0]).model));
  const auto part = [](const Subject& s) {
    return ordered_json{
        {"file", s.file.string()}, {"sha256", s.sha256}, {"arch", s.loaded.model.settings().name}};
  };
  const fs::path folder = options.out;
  const train::FolderLock lock(folder);
  CurveFile curve(folder / "mix.json", {{"schema", 1},
                                        {"tool", train::tool_json()},
                                        {"machine", train::machine_json(device)},
                                        {"standard", part(standard)},
                                        {"robust", part(robust)},
                                        {"average", options.on},
                                        {"weights", weights},
                                        {"data", train::images_json(set)},
                                        {"protocol", protocol}});
  for (size_t i = curve.points().size(); i < weights.size(); ++i) {
    models::Classifier model = model_of(weights[i]).model;
    const train::Evaluation e =
        evaluate_watched(model, set, protocol_of(model), config.eval.batch, curve.state(),
                         text("alpha ", brief(weights[i])), globals);
    fs::remove(curve.state());  // before the next weight's, which is another model
    ordered_json point{{"alpha", weights[i]}};
    point.update(accuracies_json(e.clean_correct(set), e.robust_correct(set), set.size()));
    curve.add(std::move(point));
  }
  const std::string chart =
      mix_chart(curve.points(), text("Average of ", options.on, ", ", config.eval.protocol, ", ",
                                     ball_text(config.train.norm, threat.eps)));
  engine::write_file(folder / "mix.svg", [&](std::ostream& out) { out << chart; });
  if (!options.save.empty()) {
    describe(file, standard, robust, saved, average);
    engine::write_safetensors(folder / "dual.safetensors", file);
  }
  curve.finish();
  print(globals, curve.document(),
        text(mix_table(curve.points(), set.size(), config.eval.protocol), "curve: ", options.out,
             "\n"));
}

}  // namespace

void add_mix(CLI::App& app, Globals& globals) {
  const auto options = std::make_shared<MixOptions>();
  CLI::App& command = add_command(
      app, globals,
      {"mix", "a standard and a robust model averaged: accuracies for every weight",
       "moat mix runs/digits-natural-1 runs/digits-at-1 --alpha 0.5:1:0.05 --out mixed"},
      [options, &globals] { mix_command(*options, globals); });
  command.add_option("standard", options->standard, "run folder or checkpoint")->required();
  command.add_option("robust", options->robust, "run folder or checkpoint")->required();
  command.add_option("--alpha", options->alpha,
                     "weights of the robust model: 0.7, 0.5,0.9 or from:to:step");
  command.add_option("--on", options->on, "what is averaged: logits or probabilities");
  command.add_option("--protocol", options->protocol, engine::listed(attacks::protocol_names()));
  command.add_option("--eps", options->eps, "radius; the robust run's own unless given");
  command.add_option("--data", options->data, "data set; the robust run's own unless given");
  command.add_option("--root", options->data_path, "folder of its files");
  command.add_option("--limit", options->limit, "first n images; 0: all (eval.limit)");
  command.add_option("--save", options->save, "also write dual.safetensors with this weight");
  command.add_option("--out", options->out, "folder of mix.json and mix.svg")->required();
}

}  // namespace moat::cli
