#include <algorithm>
#include <filesystem>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/number_format.h"
#include "cli/table.h"
#include "cli/training.h"
#include "data/catalog.h"
#include "engine/hardware.h"
#include "engine/io/json.h"
#include "engine/nn/module.h"
#include "models/zoo.h"
#include "train/field.h"
#include "train/images.h"
#include "train/presets.h"
#include "train/run_folder.h"
#include "train/step_estimate.h"

namespace moat::cli {

using engine::text;
using nlohmann::ordered_json;

namespace {

struct TrainOptions {
  std::string preset, config, resume = "never";
  bool dry_run = false, list_presets = false, list_settings = false;
  std::vector<std::string> settings;
};

train::Config with_settings(train::Config config, const TrainOptions& options) {
  for (const std::string& setting : options.settings)
    config = train::override_with(config, setting);
  return config;
}

// A preset, a file, or what the run that is to go on was begun with.
train::Config base_of(const TrainOptions& options) {
  if (!options.preset.empty() && !options.config.empty())
    throw engine::UsageError("give --preset or --config, not both");
  if (!options.preset.empty()) return train::preset(options.preset);
  if (!options.config.empty()) return train::read_config({}, options.config);
  const std::string run = with_settings({}, options).run.dir;
  const auto begun = train::RunFolder(run).config();
  if (options.resume == "auto" && !run.empty() && std::filesystem::exists(begun))
    return train::read_config({}, begun);
  throw engine::UsageError(
      "give --preset NAME or --config FILE; moat train --presets lists the presets");
}

// What an option of every command says twice it must say alike.
void require_agreement(const train::Config& config, const train::Config& with_options,
                       const TrainOptions& options) {
  const auto said = train::to_json(config)["run"], final = train::to_json(with_options)["run"];
  for (const std::string& setting : options.settings) {
    const std::string name = setting.substr(0, setting.find('='));
    const std::string key = name.substr(name.find('.') + 1);
    if (name.starts_with("run.") && said[key] != final[key])
      throw engine::UsageError(text("--", key, " ", final[key].dump(), " and ", name, "=",
                                    said[key].dump(), " must say the same; give one of them"));
  }
}

train::Config resolve(const TrainOptions& options, const Globals& globals) {
  const train::Config said = with_settings(base_of(options), options);
  train::Config config = said;
  config.run = with_globals(config.run, globals);
  require_agreement(said, config, options);
  train::validate(config);
  return config;
}

// The images of the training split; without data.path one that has none, of the size that the
// model's row is meant for.
data::ImageSet images_of(const train::Config& config) {
  const auto needs_path = [&](const data::CatalogEntry& entry) {
    return entry.name == config.data.name && entry.path;
  };
  if (!config.data.path.empty() || std::ranges::none_of(data::catalog(), needs_path))
    return train::load_images(config.data, data::Split::train, config.data.limit);
  const models::ClassifierSettings& row = models::find_model(config.model.name).settings;
  const int side = config.data.crop > 0 ? config.data.crop : config.data.resize;
  data::ImageSet none;
  none.height = side > 0 ? side : row.height;
  none.width = side > 0 ? side : row.width;
  none.channels = row.channels;
  none.class_names.resize(static_cast<size_t>(row.classes));
  return none;
}

// The steps, time and memory of the run, as an estimate says; `images` 0: not known.
struct Plan {
  train::StepEstimate step;
  int64_t images, batch;
  int epochs;

  double epoch_seconds() const {
    return static_cast<double>((images + batch - 1) / batch) * step.seconds;
  }
  ordered_json json() const {
    ordered_json j = {{"measured_images", step.measured_images},
                      {"step_seconds", step.seconds},
                      {"memory_bytes", step.memory_bytes}};
    if (images > 0)
      j.update({{"epoch_seconds", epoch_seconds()}, {"train_seconds", epochs * epoch_seconds()}});
    return j;
  }
  std::string line() const {
    std::string out = text("here about ", duration(step.seconds), " for a step of ", batch,
                           " images (measured with ", step.measured_images, ")");
    if (images > 0)
      out +=
          text(", ", duration(epoch_seconds()), " for an epoch, ",
               duration(epochs * epoch_seconds()), " for ", epochs, " of them beside validations");
    return out + text("; ", fixed(static_cast<double>(step.memory_bytes) / (1 << 20), 0),
                      " MiB of tensors");
  }
};

void print_plan(const train::Config& config, const Globals& globals) {
  const data::ImageSet set = images_of(config);
  train::Config sized = config;
  if (set.size() == 0) sized.model.normalize = "none";  // statistics of the images that are missing
  train::Learner learner(train::classifier_settings(sized, set), config.run.seed,
                         engine::parse_device(config.run.device));
  models::Classifier& model = learner.model;
  const Plan plan{.step = train::estimate_step(learner, config),
                  .images = set.size(),
                  .batch = config.train.batch,
                  .epochs = config.train.epochs};
  ordered_json document = ordered_json::parse(train::resolved_json(config, model));
  document["estimate"] = plan.json();
  print(globals, document, engine::json_text(document, 2) + "\n");
  if (globals.json || globals.quiet) return;
  std::cerr << (set.size() > 0 ? text(set.size(), " training images")
                               : text("no data.path: images of ", set.height, "x", set.width, "x",
                                      set.channels, ", ", set.classes(), " classes"))
            << ", " << engine::count_parameters(model) << " parameters, "
            << count(static_cast<double>(model.cost().executed()))
            << " multiply-accumulates per image;\n"
            << plan.line() << "; nothing was written\n";
}

// To people a run and its -short form are one line.
void print_presets(const Globals& globals) {
  const std::string kShort = "-short";
  std::string tables;
  ordered_json document = ordered_json::array();
  for (const train::PresetFamily& family : train::preset_families()) {
    Table table({{family.title}, {"also"}, {"what it trains"}});
    for (const auto& [name, about] : family.rows) {
      document.push_back({{"preset", name}, {"family", family.title}, {"about", about}});
      const bool has_short = std::ranges::any_of(
          family.rows, [&, &name = name](const auto& row) { return row.name == name + kShort; });
      if (!name.ends_with(kShort)) table.row({name, has_short ? kShort : "", about});
    }
    tables += (tables.empty() ? "" : "\n") + table.str();
  }
  print(globals, document, tables);
}

void print_settings(const Globals& globals) {
  ordered_json document = ordered_json::array();
  for (const train::Field& field : train::fields())
    document.push_back({{"setting", field.name()},
                        {"default", train::value_of(field, {})},
                        {"type", train::type_of(field)},
                        {"range", train::range_of(field)},
                        {"meaning", field.meaning}});
  print(globals, document, train::describe_config());
}

// As a POSIX shell reads it back.
std::string shell_word(const std::string& text) {
  const std::string kPlain =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./-+=@%,:";
  if (text.find_first_not_of(kPlain) == std::string::npos) return text;
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

// An accuracy, null where there is none.
ordered_json fraction(double value) {
  return value < 0 ? ordered_json(nullptr) : ordered_json(value);
}

void train_command(const TrainOptions& options, const Globals& globals) {
  if (options.list_presets) return print_presets(globals);
  if (options.list_settings) return print_settings(globals);
  const train::Config config = resolve(options, globals);
  set_up(config.run);
  if (options.dry_run) return print_plan(config, globals);
  if (options.resume != "never" && options.resume != "auto")
    throw engine::UsageError("--resume must be auto or never, got '" + options.resume + "'");

  const train::TrainOutcome outcome = train_watched(
      config, options.resume == "auto" ? train::Resume::automatic : train::Resume::never, globals);
  if (outcome.interrupted)
    throw engine::Error(text(
        outcome.epochs == 0 ? std::string("stopped in the first epoch, of which nothing is kept; "
                                          "begin again")
                            : text("stopped after epoch ", outcome.epochs, " of ",
                                   config.train.epochs, ", whose checkpoint is kept; continue"),
        " with: moat train ", shell_word("run.dir=" + outcome.folder.string()), " --resume auto"));
  print(globals,
        {{"run", outcome.folder.string()},
         {"epochs", outcome.epochs},
         {"was_finished", outcome.was_finished},
         {"seconds", outcome.seconds},
         {"validation_best", fraction(outcome.best)},
         {"validation_best_epoch", outcome.best_epoch},
         {"validation_last", fraction(outcome.last)}},
        outcome.was_finished ? text("already finished: ", outcome.folder.string(), "\n")
                             : training_text(config, outcome));
}

}  // namespace

void add_train(CLI::App& app, Globals& globals) {
  const auto options = std::make_shared<TrainOptions>();
  CLI::App& command =
      add_command(app, globals,
                  {"train", "train a model and fill a run folder",
                   "moat train --preset digits-advmoe train.epochs=30 run.dir=runs/mine"},
                  [options, &globals] { train_command(*options, globals); });
  command.add_option("--preset", options->preset, "a named configuration");
  command.add_option("--config", options->config, "a JSON file of sections and keys");
  command.add_option("--resume", options->resume,
                     "auto: continue an unfinished run of the same settings, with run.dir alone of "
                     "those it was begun with; never");
  command.add_flag(
      "--dry-run", options->dry_run,
      "print the resolved configuration, parameters, cost, and the time and memory that a "
      "step takes here, and stop");
  command.add_flag("--presets", options->list_presets, "list the presets and stop");
  command.add_flag("--settings", options->list_settings, "list every section.key and stop");
  command.add_option("settings", options->settings, "section.key=value …");
}

}  // namespace moat::cli
