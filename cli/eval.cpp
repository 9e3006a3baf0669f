#include <algorithm>
#include <memory>
#include <optional>

#include "cli/evaluation.h"
#include "cli/image_options.h"
#include "cli/session.h"
#include "engine/names.h"
#include "train/run_folder.h"

namespace moat::cli {

using engine::require;
using engine::text;
namespace fs = std::filesystem;

namespace {

struct EvalOptions {
  std::string subject, protocol, data, data_path;
  std::optional<int64_t> limit;
  std::vector<std::string> settings;
};

// The settings that decide an evaluation; all others are the run's.
const std::vector<std::string> kSettings{
    "eval.protocol",  "eval.eps",    "eval.split", "eval.limit", "eval.batch",
    "eval.dir",       "eval.checks", "data.name",  "data.path",  "data.resize",
    "data.resize_by", "data.crop",   "train.norm"};
bool is_of_the_subject(const std::string& setting) { return setting.starts_with("model."); }

// Those of the run with the options laid over them.
train::Config config_of(const Subject& subject, const EvalOptions& options,
                        const Globals& globals) {
  train::Config config = subject.config;
  if (!options.protocol.empty()) config.eval.protocol = options.protocol;
  if (!options.data.empty()) config.data.name = options.data;
  if (!options.data_path.empty()) config.data.path = options.data_path;
  config.eval.limit = options.limit.value_or(config.eval.limit);
  bool has_eps = false;
  for (const std::string& setting : options.settings) {
    if (is_of_the_subject(setting)) continue;
    config = train::override_with(config, setting);
    const std::string name = setting.substr(0, setting.find('='));
    if (std::ranges::find(kSettings, name) == kSettings.end())
      throw engine::UsageError(text("an evaluation does not use ", name, "; it takes ",
                                    engine::listed(kSettings), ", and of a v-moe model.capacity, ",
                                    "model.group and model.priority"));
    has_eps = has_eps || name == "eval.eps";
  }
  if (has_eps && config.eval.eps == 0)
    throw engine::UsageError(
        "eval.eps must be above 0, got 0; the clean accuracy is in every "
        "report, and unset it is the radius of the training");
  if (!has_eps) {
    require_own_radius(subject, config.train.norm, "eval.eps=RADIUS");
  } else {  // the ball of the training is not used, and may be none in this norm
    config.train.eps = config.eval.eps;
    config.train.step = 0;
  }
  check_root(config.data.name, options.data_path, config.data.path);
  config.run = with_globals(config.run, globals);
  train::validate(config);
  return config;
}

fs::path report_folder(const Subject& subject, const train::EvalSettings& eval) {
  if (!eval.dir.empty()) return eval.dir;
  require(!subject.run.empty(), [&] {
    return text("'", subject.file.string(), "' is not in a run folder: say where the report goes ",
                "with eval.dir=FOLDER");
  });
  return train::RunFolder(subject.run).evaluation(eval.protocol);
}

void eval_command(const EvalOptions& options, const Globals& globals) {
  require_fp32(globals, "a protocol is always run", "; moat attack takes it");
  SubjectOptions given{options.subject};
  std::ranges::copy_if(options.settings, std::back_inserter(given.settings), is_of_the_subject);
  Subject subject = open_subject(given, globals);
  const train::Config config = config_of(subject, options, globals);
  set_up(config.run);

  const FinishedEvaluation done =
      evaluate_into(report_folder(subject, config.eval), subject, config, globals);
  print(globals, done.report, done.headline);
}

}  // namespace

void add_eval(CLI::App& app, Globals& globals) {
  const auto options = std::make_shared<EvalOptions>();
  CLI::App& command = add_command(app, globals,
                                  {"eval", "robust accuracy by a named protocol",
                                   "moat eval runs/digits-advmoe-1 --protocol pgd-50@1"},
                                  [options, &globals] { eval_command(*options, globals); });
  command.add_option("run", options->subject, "run folder or checkpoint")->required();
  command.add_option("--protocol", options->protocol, engine::listed(attacks::protocol_names()));
  command.add_option("--data", options->data, "data set; the run's own unless given");
  command.add_option("--root", options->data_path, "folder of its files");
  command.add_option("--limit", options->limit, "first n images; 0: all (eval.limit)");
  command.add_option(
      "settings", options->settings,
      "eval.key=value …, data.name, data.path, data.resize, data.resize_by, data.crop, train.norm; "
      "of a v-moe model.capacity, model.group, model.priority");
}

}  // namespace moat::cli
