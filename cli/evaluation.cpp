#include "cli/evaluation.h"

#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/interrupt.h"
#include "cli/number_format.h"
#include "cli/session.h"
#include "cli/table.h"
#include "engine/io/file.h"
#include "engine/io/json.h"
#include "train/run_folder.h"
#include "train/statistics.h"
#include "train/token_room.h"
#include "train/training_attack.h"

namespace moat::cli {

using engine::require;
using engine::text;
namespace fs = std::filesystem;

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
             brief(std::stod(check.at("value").get<std::string>())), " (at most ",
             check.at("threshold").get<double>(), "), ", check.at("explain").get<std::string>(),
             "; ", check.at("next_action").get<std::string>(), "\n");
  }
  return text("checks: ", count["pass"], " pass, ", count["warn"], " warn, ", count["fail"],
              " fail, ", count["skip"], " skip\n", lines);
}

// "SA 97.5 % [95.3, 98.7]  RA 78.0 % [73.4, 81.9] …": the headline of an evaluation, and its
// attacks.
std::string evaluation_text(const train::Evaluation& e, const train::EvaluationSubject& on,
                            const nlohmann::ordered_json& report, const fs::path& folder) {
  const data::ImageSet& set = on.set;
  Table table({{text("on ", set.size(), " images, ",
                     ball_text(attacks::name_of(on.threat.norm), on.threat.eps))},
               {"accuracy  [95 % interval]", Align::right}});
  table.row({"clean", accuracy_text(e.clean_correct(set), set.size())});
  for (size_t a = 0; a < e.protocol.attacks.size(); ++a) {
    const attacks::NamedAttack& attack = e.protocol.attacks[a];
    int64_t resisted = 0;
    for (const attacks::SampleResult& s : e.samples) resisted += s.resisted[a];
    const bool is_alone = attack.against == attacks::Against::correct;
    table.row({(is_alone ? "" : "after ") + attack.name, accuracy_text(resisted, set.size())});
  }
  table.row({"robust (" + e.protocol.name + ", worst per image)",
             accuracy_text(e.robust_correct(set), set.size())});
  return table.str() + checks_text(report.at("checks")) + "report: " + folder.string() + "\n";
}

// Writes it with a progress bar over its checks, which can be interrupted.
nlohmann::ordered_json report_watched(const train::Evaluation& evaluation,
                                      const train::EvaluationSubject& on, const fs::path& folder,
                                      const Globals& globals) {
  Progress progress(progress_style(globals), 0, 0, {nullptr, {}, {}, "passes"});
  return train::write_evaluation(evaluation, on, folder, [&](const attacks::ChecksStanding& at) {
    require(!is_interrupted(), "stopped in the checks; the same command goes on from here");
    progress.set_total(at.passes_done + at.passes_left);
    progress.update(at.passes_done, "checks", at.family);
  });
}

}  // namespace

std::string accuracy_text(int64_t part, int64_t whole) {
  const train::Interval i = train::wilson_interval(part, whole);
  char line[64];
  std::snprintf(line, sizeof line, "%.1f %%  [%.1f, %.1f]",
                whole ? 100.0 * double(part) / double(whole) : 0.0, 100 * i.low, 100 * i.high);
  return line;
}

attacks::ThreatModel evaluation_threat(const train::Config& config) {
  return {attacks::norm_named(config.train.norm, "train.norm"),
          config.eval.eps > 0 ? config.eval.eps : config.train.eps};
}

std::string selected_on(const Subject& subject) {
  const auto said = subject.loaded.metadata.find("selected_on");
  return said == subject.loaded.metadata.end() ? "unknown" : said->second;
}

std::string unfinished_line(const Subject& subject) {
  if (subject.run.empty()) return "";
  const std::string said = train::unfinished_text(train::RunFolder(subject.run), subject.config);
  return said.empty() ? "" : text(said, ", ", subject.run.string(), "\n");
}

train::Evaluation evaluate_watched(models::Classifier& model, const data::ImageSet& set,
                                   const attacks::Protocol& protocol, int batch,
                                   const fs::path& state, const std::string& label,
                                   const Globals& globals) {
  catch_interrupts();
  std::unique_ptr<Progress> progress;
  const auto show = [&](const train::EvaluationStanding& at) {
    if (!progress)  // the first batch warms up, and what a state brought along is not of this run
      progress = std::make_unique<Progress>(progress_style(globals), 0, at.passes_done,
                                            Progress::Output{nullptr, {}, {}, "passes"});
    progress->set_total(at.passes_done + at.passes_left);
    progress->update(at.passes_done, label,
                     text(at.stage, " ", at.images_done, "/", at.images, ": ", at.robust, " of ",
                          at.correct, " resist"));
  };
  return train::evaluate(
      model, set, protocol,
      {.batch = batch, .state = state, .progress = show, .stop_requested = is_interrupted});
}

FinishedEvaluation evaluate_into(const char* choice, const fs::path& folder,
                                 const train::EvaluationSubject& subject,
                                 const attacks::Protocol& protocol, const Globals& globals) {
  const train::FolderLock lock(folder);
  require(!fs::exists(folder / "report.json"), [&] {
    return text(
        "'", folder.string(),
        "' holds a finished evaluation, which is never overwritten; choose another folder with ",
        choice);
  });
  const fs::path state = folder / "state.safetensors";
  require_own_folder(folder, state);
  const train::Evaluation evaluation = evaluate_watched(
      subject.model, subject.set, protocol, subject.batch, state, protocol.name, globals);
  nlohmann::ordered_json report = report_watched(evaluation, subject, folder, globals);
  fs::remove(state);
  std::string headline = evaluation_text(evaluation, subject, report, folder);
  return {std::move(report), std::move(headline)};
}

FinishedEvaluation evaluate_into(const fs::path& folder, Subject& subject,
                                 const train::Config& config, const Globals& globals) {
  models::Classifier& model = subject.loaded.model;
  const attacks::ThreatModel threat = evaluation_threat(config);
  const attacks::Protocol protocol = attacks::find_protocol(
      config.eval.protocol, threat, config.run.seed, train::attack_model(model));
  const data::ImageSet set = load_for(subject.loaded, config, config.eval.split, config.eval.limit);
  FinishedEvaluation done =
      evaluate_into("eval.dir=FOLDER", folder,
                    {model, subject.file.string(), subject.sha256, selected_on(subject), set,
                     threat, config.eval.batch, config.eval.checks, config.run.seed},
                    protocol, globals);
  done.headline = unfinished_line(subject) + done.headline;
  return done;
}

void require_evaluation_of(const fs::path& folder, const Subject& subject,
                           const train::Config& config) {
  const fs::path file = folder / "report.json";
  const auto report =
      engine::parse_json<nlohmann::ordered_json>(engine::read_file(file), file.string());
  const attacks::ThreatModel threat = evaluation_threat(config);
  const data::ImageSet set = load_for(subject.loaded, config, config.eval.split, config.eval.limit);
  nlohmann::ordered_json wanted{{"/protocol/name", config.eval.protocol},
                                {"/threat/norm", attacks::name_of(threat.norm)},
                                {"/threat/eps", threat.eps},
                                {"/data/n", set.size()},
                                {"/data/sha256", data::content_hash(set)},
                                {"/model/sha256", subject.sha256}};
  // An older report is silent about a v-moe, and is of the settings in its checkpoint.
  const nlohmann::ordered_json::json_pointer mixture("/model/moe");
  if (report.contains(mixture) && !report[mixture].is_null())
    wanted["/model/moe"] = train::moe_json(subject.loaded.model.settings());
  for (const auto& [key, value] : wanted.items()) {
    const nlohmann::ordered_json::json_pointer at(key);
    require(report.contains(at) && report[at] == value, [&, &key = key, &value = value] {
      return text("'", file.string(), "' is an evaluation with ", key, " = ",
                  report.contains(at) ? report[at].dump() : "nothing", ", asked for is ",
                  value.dump(), "; move its folder away to have it made anew");
    });
  }
}

}  // namespace moat::cli
