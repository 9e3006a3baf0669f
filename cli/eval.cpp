#include <memory>

#include "cli/evaluation.h"
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
  int64_t limit = 0;
  std::vector<std::string> settings;
};

fs::path report_folder(const Subject& subject, const train::EvalSettings& eval) {
  if (!eval.dir.empty()) return eval.dir;
  require(!subject.run.empty(), [&] {
    return text("'", subject.file.string(), "' is not in a run folder: say where the report goes ",
                "with eval.dir=FOLDER");
  });
  return train::RunFolder(subject.run).evaluation(eval.protocol);
}

void eval_command(const EvalOptions& options, const Globals& globals) {
  if (globals.precision.value_or("fp32") != "fp32")
    throw engine::UsageError("a protocol is always run in fp32, got --precision " +
                             *globals.precision + "; moat attack takes it");
  Subject subject = open_subject(options.subject, globals);
  train::Config config = subject.config;
  if (!options.protocol.empty()) config.eval.protocol = options.protocol;
  if (!options.data.empty()) config.data.name = options.data;
  if (!options.data_path.empty()) config.data.path = options.data_path;
  if (options.limit > 0) config.eval.limit = options.limit;
  for (const std::string& setting : options.settings)
    config = train::override_with(config, setting);
  config.run = with_globals(config.run, globals);
  train::validate(config);
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
  command.add_option("--limit", options->limit, "first n images (eval.limit)");
  command.add_option("settings", options->settings, "eval.key=value …");
}

}  // namespace moat::cli
