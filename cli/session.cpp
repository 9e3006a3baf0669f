#include "cli/session.h"

#include <iostream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/interrupt.h"
#include "cli/number_format.h"
#include "cli/table.h"
#include "data/catalog.h"
#include "engine/hardware.h"
#include "engine/io/file.h"
#include "engine/io/json.h"
#include "engine/io/sha256.h"
#include "train/model_settings.h"
#include "train/run_folder.h"
#include "train/statistics.h"

namespace moat::cli {

using engine::require;
using engine::text;
namespace fs = std::filesystem;

ProgressStyle progress_style(const Globals& globals) {
  return globals.json || globals.quiet ? ProgressStyle::off : progress_style_of_stderr();
}

namespace {

// The folder above checkpoints/ when it is a run's.
fs::path run_of(const fs::path& checkpoint) {
  const fs::path root = fs::absolute(checkpoint).parent_path().parent_path();
  return fs::exists(train::RunFolder(root).config()) ? root : fs::path{};
}

train::Config config_of(const fs::path& run) {
  if (run.empty()) return {};
  const fs::path file = train::RunFolder(run).config();
  nlohmann::json document = engine::parse_json(engine::read_file(file), file.string());
  for (const char* key : {"tool", "machine", "architecture", "parameters", "macs"})
    document.erase(key);
  return train::overlay({}, document, file.string());
}

std::string percent(int64_t part, int64_t whole) {
  const train::Interval i = train::wilson_interval(part, whole);
  char line[64];
  std::snprintf(line, sizeof line, "%.1f %%  [%.1f, %.1f]",
                whole ? 100.0 * double(part) / double(whole) : 0.0, 100 * i.low, 100 * i.high);
  return line;
}

}  // namespace

Subject open_subject(const std::string& given, const Globals& globals) {
  const fs::path file = train::checkpoint_of(given);
  const std::string bytes = engine::read_file(file);
  const fs::path run = run_of(file);
  const std::string device = globals.device.value_or("auto");
  Subject subject{file, run,
                  engine::sha256({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}),
                  models::load_model(file, engine::parse_device(device)), config_of(run)};
  subject.config.run.device = device;
  subject.config.run.precision = globals.precision.value_or("fp32");
  subject.loaded.model.set_activations(
      engine::activation_dtype(engine::parse_precision(subject.config.run.precision)));
  const std::string warning = train::company_warning(subject.loaded.model.settings());
  if (!warning.empty() && !globals.quiet) std::cerr << "warning: " << warning << '\n';
  return subject;
}

data::ImageSet load_for(const models::Classifier& model, const train::Config& config,
                        const std::string& split, int64_t limit) {
  data::ImageSet set = data::load({.name = config.data.name,
                                   .path = config.data.path,
                                   .resize = config.data.resize,
                                   .limit = limit},
                                  data::parse_split(split));
  const models::ClassifierSettings& s = model.settings();
  require(set.height == s.height && set.width == s.width && set.channels == s.channels &&
              set.classes() == s.classes,
          [&] {
            return text("the model takes ", s.height, "x", s.width, "x", s.channels, " images of ",
                        s.classes, " classes, data set '", set.name, "' has ", set.height, "x",
                        set.width, "x", set.channels, " of ", set.classes(), "; choose data.name");
          });
  return set;
}

namespace {

// "checks: 21 pass, 1 warn, 0 fail, 2 skip", and what did not pass.
std::string checks_text(const nlohmann::ordered_json& checks) {
  std::map<std::string, int> count{{"pass", 0}, {"warn", 0}, {"fail", 0}, {"skip", 0}};
  std::string lines;
  for (const auto& check : checks) {
    const std::string status = check.at("status");
    ++count[status];
    if (status != "warn" && status != "fail") continue;
    lines +=
        text("  ", status, "  ", check.at("id").get<std::string>(), ": ",
             check.at("value").get<std::string>(), " (at most ",
             check.at("threshold").get<double>(), "), ", check.at("explain").get<std::string>(),
             "; ", check.at("next_action").get<std::string>(), "\n");
  }
  return text("checks: ", count["pass"], " pass, ", count["warn"], " warn, ", count["fail"],
              " fail, ", count["skip"], " skip\n", lines);
}

// "SA 97.5 % [95.3, 98.7]  RA 78.0 % [73.4, 81.9] …": the headline of an evaluation, and its
// attacks.
std::string evaluation_text(const train::Evaluation& e, const data::ImageSet& set,
                            const nlohmann::ordered_json& report, const fs::path& folder) {
  Table table({{"on " + std::to_string(set.size()) + " images"},
               {"accuracy  [95 % interval]", Align::right}});
  table.row({"clean", percent(e.clean_correct(set), set.size())});
  for (size_t a = 0; a < e.protocol.attacks.size(); ++a) {
    const attacks::NamedAttack& attack = e.protocol.attacks[a];
    int64_t resisted = 0;
    for (const attacks::SampleResult& s : e.samples) resisted += s.resisted[a];
    const bool is_alone = attack.against == attacks::Against::correct;
    table.row({(is_alone ? "" : "after ") + attack.name, percent(resisted, set.size())});
  }
  table.row({"robust (" + e.protocol.name + ", worst per image)",
             percent(e.robust_correct(set), set.size())});
  return table.str() + checks_text(report.at("checks")) + "report: " + folder.string() + "\n";
}

}  // namespace

void evaluate_into(const fs::path& folder, const train::EvaluationSubject& subject,
                   const attacks::Protocol& protocol, const Globals& globals) {
  require(!fs::exists(folder / "report.json"), [&] {
    return text("'", folder.string(),
                "' holds a finished evaluation, which is never overwritten; choose another folder");
  });
  catch_interrupts();
  std::unique_ptr<Progress> progress;
  const auto show = [&](const train::EvaluationStanding& at) {
    if (!progress)  // the first batch warms up, and what a state brought along is not of this run
      progress = std::make_unique<Progress>(progress_style(globals), 0, at.passes_done,
                                            Progress::Output{nullptr, {}, {}, "passes"});
    progress->set_total(at.passes_done + at.passes_left);
    progress->update(at.passes_done, protocol.name,
                     text(at.stage, " ", at.images_done, "/", at.images, ": ", at.robust, " of ",
                          at.correct, " resist"));
  };
  const train::Evaluation evaluation = train::evaluate(subject.model, subject.set, protocol,
                                                       {.batch = subject.batch,
                                                        .state = folder / "state.safetensors",
                                                        .progress = show,
                                                        .stop_requested = is_interrupted});
  progress.reset();
  const nlohmann::ordered_json report = train::write_evaluation(evaluation, subject, folder);
  print(globals, report, evaluation_text(evaluation, subject.set, report, folder));
}

}  // namespace moat::cli
