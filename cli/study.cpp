#include <algorithm>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/evaluation.h"
#include "cli/interrupt.h"
#include "cli/processes.h"
#include "cli/progress.h"
#include "cli/report/page.h"
#include "cli/session.h"
#include "cli/study_results.h"
#include "cli/training.h"
#include "engine/hardware.h"
#include "engine/io/file.h"
#include "engine/io/json.h"
#include "train/analysis/routes.h"
#include "train/machine.h"
#include "train/model_settings.h"
#include "train/token_room.h"

// moat study: the runs of a study trained, evaluated and set beside each other. What is there
// already is not made again, so that the same command goes on after a kill or Ctrl-C.

namespace moat::cli {

using engine::require;
using engine::text;
using nlohmann::ordered_json;
namespace fs = std::filesystem;

namespace {

struct StudyOptions {
  std::string name, out;
  int seeds = 3, jobs = 1;
  int64_t aa_limit = 0;
  bool without_aa = false, list = false, dry_run = false;
  std::vector<std::string> settings;
};

constexpr int kPartSteps = 20;  // of PGD on router and experts

const std::string kMoeAttack = "moe-aa@1", kDenseAttack = "aa-standard@1";
bool is_autoattack(const std::string& protocol) {
  return protocol == kMoeAttack || protocol == kDenseAttack;
}

void print_studies(const Globals& globals) {
  Table table({{"study"}, {"what is compared"}});
  ordered_json document = ordered_json::array();
  for (const train::Study& study : train::studies()) {
    table.row({study.name, study.about});
    ordered_json rows = ordered_json::array();
    for (const train::StudyRow& row : study.rows) {
      table.row({"", row.name + ": " + row.about});
      rows.push_back({{"name", row.name}, {"about", row.about}, {"preset", row.preset}});
    }
    document.push_back({{"study", study.name}, {"about", study.about}, {"rows", rows}});
  }
  print(globals, document, table.str());
}

// Throws where the file is of another study than `about`, which decides the runs.
void require_same(const fs::path& file, const ordered_json& about) {
  if (!fs::exists(file)) return;
  const auto before = engine::parse_json<ordered_json>(engine::read_file(file), file.string());
  for (const auto& [key, value] : about.items())
    require(before.contains(key) && before[key] == value, [&, &key = key, &value = value] {
      return text("'", file.string(), "' is of a study with ", key, " = ",
                  before.contains(key) ? before[key].dump() : "nothing", ", now it is ",
                  value.dump(), "; choose another --out");
    });
}

// One run of a study: its training, its evaluations, its parts.
class StudyRun {
 public:
  StudyRun(const train::Study& study, const StudyOptions& options, train::Config config,
           const Globals& globals)
      : study_(study), options_(options), config_(std::move(config)), globals_(globals) {}

  const std::string& folder() const { return config_.run.dir; }
  const train::Config& config() const { return config_; }

  // Makes what is not there yet.
  void run() const {
    set_up(config_.run);
    train();
    evaluate();
  }

  bool is_evaluated() const {
    const auto is_there = [&](const std::string& protocol) {
      return fs::exists(report_of(protocol));
    };
    return std::ranges::all_of(protocols(), [&](const std::string& protocol) {
      return is_there(protocol) || (protocol == kMoeAttack && is_there(kDenseAttack));
    });
  }

  // How far it is.
  std::string standing() const {
    const train::RunFolder files(config_.run.dir);
    if (!fs::exists(files.config())) return "to be trained";
    const std::string unfinished = train::unfinished_text(files, config_);
    if (!unfinished.empty()) return unfinished;
    return is_evaluated() ? "done" : "trained, to be evaluated";
  }

  ordered_json parts() const {
    if (!fs::exists(parts_file())) return nullptr;
    return engine::parse_json<ordered_json>(engine::read_file(parts_file()), parts_file().string());
  }

 private:
  void train() const {
    const train::TrainOutcome outcome = train_watched(config_, train::Resume::automatic, globals_);
    require(!outcome.interrupted, [&] {
      return text("stopped in '", config_.run.dir, "' after ", outcome.epochs, " whole epochs of ",
                  config_.train.epochs, ", which are kept; the same command goes on from there");
    });
  }

  // As every protocol, in fp32, whatever the precision of the training.
  void evaluate() const {
    Globals exact = globals_;
    exact.precision = "fp32";
    train::Config config = config_;
    config.run = with_globals(config.run, exact);
    set_up(config.run);
    Subject subject = open_subject({config.run.dir}, exact);
    const bool is_routed = subject.loaded.model.is_routed();
    for (std::string protocol : protocols()) {
      if (protocol == kMoeAttack && !is_routed) protocol = kDenseAttack;
      const fs::path folder = report_of(protocol).parent_path();
      config.eval.protocol = protocol;
      config.eval.limit = is_autoattack(protocol) ? options_.aa_limit : config_.eval.limit;
      if (fs::exists(folder / "report.json"))
        require_evaluation_of(folder, subject, config);
      else
        evaluate_into(folder, subject, config, exact);
    }
    if (study_.parts == train::Parts::measured && is_routed && !fs::exists(parts_file()))
      measure_parts(subject.loaded);
  }

  std::vector<std::string> protocols() const {
    std::vector<std::string> out = study_.protocols;
    if (options_.without_aa) std::erase_if(out, is_autoattack);
    return out;
  }

  fs::path report_of(const std::string& protocol) const {
    return train::RunFolder(config_.run.dir).evaluation(protocol) / "report.json";
  }

  fs::path parts_file() const { return fs::path(config_.run.dir) / "parts.json"; }

  void measure_parts(const models::LoadedModel& loaded) const {
    const data::ImageSet set = load_for(loaded, config_, config_.eval.split, config_.eval.limit);
    const train::AnalysisSettings settings{.threat = evaluation_threat(config_),
                                           .steps = kPartSteps,
                                           .batch = config_.eval.batch,
                                           .seed = config_.run.seed};
    ordered_json parts =
        train::to_json(train::component_robustness(loaded.model, set, settings), set.size());
    parts["images"] = set.size();
    parts["steps"] = settings.steps;
    parts["eps"] = settings.threat.eps;
    engine::write_json(parts_file(), parts);
  }

  const train::Study& study_;
  const StudyOptions& options_;
  train::Config config_;
  const Globals& globals_;
};

// Seed after seed, each row after the one that it starts with.
std::vector<Job> jobs_of(const train::Study& study, const std::vector<StudyRun>& runs) {
  const size_t rows = study.rows.size();
  std::vector<Job> jobs;
  for (size_t i = 0; i < runs.size(); ++i) {
    jobs.push_back({runs[i].folder(), [&run = runs[i]] { run.run(); }, {}});
    for (size_t row = 0; row < rows; ++row)
      if (study.rows[row].name == study.rows[i % rows].start)
        jobs.back().after.push_back(i - i % rows + row);
  }
  return jobs;
}

void print_plan(const train::Study& study, const std::vector<StudyRun>& runs,
                const Globals& globals) {
  Table table({{"run"}, {"preset"}, {"epochs", Align::right}, {"standing"}});
  ordered_json document = ordered_json::array();
  for (size_t i = 0; i < runs.size(); ++i) {
    const train::Config& config = runs[i].config();
    const std::string& preset = study.rows[i % study.rows.size()].preset;
    table.row({runs[i].folder(), preset, text(config.train.epochs), runs[i].standing()});
    document.push_back({{"run", runs[i].folder()},
                        {"preset", preset},
                        {"standing", runs[i].standing()},
                        {"config", train::to_json(config)}});
  }
  print(globals, document, table.str());
}

void study_command(const StudyOptions& options, const Globals& globals) {
  if (options.list) return print_studies(globals);
  if (options.name.empty() || options.out.empty())
    throw engine::UsageError("give the name of a study and --out FOLDER; moat study --list");
  if (options.seeds < 1 || options.aa_limit < 0)
    throw engine::UsageError("--seeds must be at least 1 and --aa-limit at least 0");
  const bool in_turn = options.jobs == 1;
  if (options.jobs < 1 || options.jobs > engine::cores())
    throw engine::UsageError(text("--jobs must be from 1 to the number of cores, ", engine::cores(),
                                  ", got ", options.jobs));
  const train::Study& study = train::find_study(options.name);
  train::require_free(study, options.settings);
  const uint64_t first = globals.seed.value_or(0);
  const fs::path folder = options.out;
  const auto config_of = [&](const train::StudyRow& row, int s) {
    train::Config config =
        train::config_of(row, first + static_cast<uint64_t>(s), folder, options.settings);
    const uint64_t seed = config.run.seed;
    config.run = with_globals(config.run, globals);
    config.run.seed = seed;
    if (!in_turn && !engine::parse_device(config.run.device).is_cpu())
      throw engine::UsageError("--jobs above 1 shares the cores of a CPU; give --device cpu");
    if (!in_turn && config.run.threads == 0) config.run.threads = engine::cores() / options.jobs;
    return config;
  };
  for (const train::StudyRow& row : study.rows)  // refuses what cannot be run, or not evaluated
    train::require_no_company(train::zoo_settings(config_of(row, 0).model));
  const fs::path file = folder / "study.json";
  ordered_json document{
      {"study", study.name},
      {"settings", options.settings},
      {"first_seed", first},
      {"seeds", options.seeds},
      {"aa_limit", options.without_aa ? ordered_json("none") : ordered_json(options.aa_limit)}};
  require_same(file, document);
  Globals of_runs = globals;
  of_runs.quiet = globals.quiet || !in_turn;  // of several at once only the number is shown
  std::vector<StudyRun> runs;
  for (int s = 0; s < options.seeds; ++s)
    for (const train::StudyRow& row : study.rows)
      runs.emplace_back(study, options, config_of(row, s), of_runs);
  if (options.dry_run) return print_plan(study, runs, globals);
  const std::vector<Job> jobs = jobs_of(study, runs);
  Progress progress(in_turn ? ProgressStyle::off : progress_style(globals),
                    static_cast<int64_t>(jobs.size()), 0, {nullptr, {}, {}, "runs"});
  document["about"] = study.about;
  document["tool"] = train::tool_json();
  document["machine"] = train::machine_json({});
  // Of what there is, so that a study that is broken off leaves its results.
  const auto write_results = [&] {
    StudyResults results(study);
    for (size_t i = 0; i < runs.size(); ++i)
      if (runs[i].is_evaluated())
        results.add(i % study.rows.size(), report::read_run(runs[i].folder()), runs[i].parts());
    const std::string chart = results.chart(), page = report::page(results.runs());
    engine::write_file(folder / "study.svg", [&](std::ostream& out) { out << chart; });
    engine::write_file(folder / "report.html", [&](std::ostream& out) { out << page; });
    document["rows"] = results.document();
    engine::write_json(file, document);
    return results;
  };
  const auto ended = [&](size_t done) {
    write_results();
    progress.update(static_cast<int64_t>(done), text(study.name, " ", done, "/", jobs.size()));
  };
  if (in_turn)
    for (size_t i = 0; i < jobs.size(); ++i) {
      jobs[i].run();
      if (progress_style(globals) != ProgressStyle::off)
        std::cerr << jobs[i].name << ": done, " << i + 1 << " of " << jobs.size() << " runs\n";
      ended(i + 1);
    }
  else {
    catch_interrupts();
    run_in_processes(jobs, options.jobs, ended);
  }
  const StudyResults results = write_results();
  print(globals, document,
        text(results.table().str(), results.note(), "figure: ", (folder / "study.svg").string(),
             "\nreport: ", (folder / "report.html").string(), "\n"));
}

}  // namespace

void add_study(CLI::App& app, Globals& globals) {
  const auto options = std::make_shared<StudyOptions>();
  CLI::App& command =
      add_command(app, globals,
                  {"study", "runs trained, evaluated and set beside each other over seeds",
                   "moat study pilot --seeds 3 --out runs/pilot"},
                  [options, &globals] { study_command(*options, globals); });
  command.add_option("study", options->name, "its name");
  command.add_option("settings", options->settings, "section.key=value …, for every run");
  command.add_option("--out", options->out,
                     "folder of the runs, study.json, study.svg, report.html");
  command.add_option("--seeds", options->seeds, "runs of each row, from --seed on");
  command.add_option("--aa-limit", options->aa_limit,
                     "first n images for aa-standard@1 and moe-aa@1; 0: all");
  command.add_flag("--without-aa", options->without_aa, "leave aa-standard@1 and moe-aa@1 out");
  command.add_option("--jobs", options->jobs,
                     "runs at once, each on its share of the cores; faster for small nets");
  command.add_flag("--dry-run", options->dry_run, "print the runs and how far each is, and stop");
  command.add_flag("--list", options->list, "list the studies and their rows and stop");
}

}  // namespace moat::cli
