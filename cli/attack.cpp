#include <memory>
#include <optional>
#include <variant>

#include "cli/attack_settings.h"
#include "cli/evaluation.h"
#include "cli/session.h"
#include "engine/names.h"
#include "train/numbers.h"
#include "train/objective.h"

namespace moat::cli {

using engine::require;
using engine::text;

namespace {

struct AttackOptions {
  std::string subject, data, data_path, split = "test", out;
  std::string attack = "pgd", norm = "linf", eps, source;
  AttackSettings settings;
  int batch = 256;
  int64_t limit = 0;
};

attacks::ThreatModel threat_of(const AttackOptions& o, const train::Config& config) {
  if (o.norm != "linf" && o.norm != "l2") engine::refuse_name("--norm", o.norm, {"linf", "l2"});
  attacks::ThreatModel threat{o.norm == "l2" ? engine::Norm::l2 : engine::Norm::linf};
  threat.eps = o.eps.empty() ? config.train.eps : train::parse_eps(o.eps, "--eps", o.norm);
  return threat;
}

// Where a transfer attack takes its points from; nothing for others. What is returned must outlive
// the attack.
std::optional<Subject> give_source(attacks::Attack& attack, const AttackOptions& o,
                                   const Globals& globals) {
  const auto transfer = std::get_if<attacks::Transfer>(&attack);
  if ((transfer != nullptr) == o.source.empty())
    throw engine::UsageError(
        text("--attack transfer needs a --source, and no other attack takes one; got --attack ",
             o.attack, o.source.empty() ? " without one" : " with one"));
  if (!transfer) return std::nullopt;
  std::optional<Subject> source = open_subject(o.source, globals);
  transfer->source = train::attack_model(source->loaded.model);
  transfer->from = source->sha256;
  return source;
}

void attack_command(const AttackOptions& options, const Globals& globals) {
  Subject subject = open_subject(options.subject, globals);
  train::Config config = subject.config;
  if (!options.data.empty()) config.data.name = options.data;
  if (!options.data_path.empty()) config.data.path = options.data_path;
  config.run = with_globals(config.run, globals);
  set_up(config.run);
  if (options.batch < 1 || options.limit < 0)
    throw engine::UsageError("--batch must be at least 1 and --limit at least 0");
  const attacks::ThreatModel threat = threat_of(options, config);
  attacks::Attack attack = find_attack(options.attack, threat, options.settings, config.run.seed);
  const std::optional<Subject> source = give_source(attack, options, globals);
  models::Classifier& model = subject.loaded.model;
  const data::ImageSet set = load_for(model, config, options.split, options.limit);
  if (source) load_for(source->loaded.model, config, options.split, 1);  // of the same size
  evaluate_into(options.out,
                {model, subject.file.string(), subject.sha256, "unknown", set, threat,
                 options.batch, 0, config.run.seed},
                {options.attack, {{options.attack, attack}}}, globals);
}

}  // namespace

void add_attack(CLI::App& app, Globals& globals) {
  const auto o = std::make_shared<AttackOptions>();
  CLI::App& command =
      add_command(app, globals,
                  {"attack", "one attack with settings of its own; writes adversarial examples",
                   "moat attack runs/digits-at-1 --eps 0.1 --steps 20 --out runs/attacked"},
                  [o, &globals] { attack_command(*o, globals); });
  command.add_option("run", o->subject, "run folder or checkpoint")->required();
  command.add_option("--out", o->out, "folder for the examples and the report")->required();
  command.add_option("--attack", o->attack, engine::listed(attack_names()));
  command.add_option("--source", o->source,
                     "run or checkpoint whose adversarial images are shown (transfer)");
  command.add_option("--norm", o->norm, "linf or l2");
  command.add_option("--eps", o->eps, "radius in pixels of [0, 1]: 8/255, 0.031");
  command.add_option("--step", o->settings.step, "step size; eps/4 unless given");
  command.add_option("--steps", o->settings.steps, "steps");
  command.add_option("--restarts", o->settings.restarts, "random restarts");
  command.add_option("--targets", o->settings.targets, "classes aimed at (apgd-t, fab-t)");
  command.add_option("--queries", o->settings.queries, "queries (square)");
  command.add_option("--draws", o->settings.draws, "points in the ball, and on it (noise)");
  command.add_option("--momentum", o->settings.momentum, "of the gradient (pgd, mim)");
  command.add_option("--loss", o->settings.loss, "cross-entropy, margin or dlr");
  command.add_option("--gate", o->settings.gate,
                     "gradient through the router's gate: through or blocked");
  command.add_option("--data", o->data, "data set; the run's own unless given");
  command.add_option("--root", o->data_path, "folder of its files");
  command.add_option("--split", o->split, "train, validation or test");
  command.add_option("--limit", o->limit, "first n images; 0: all");
  command.add_option("--batch", o->batch, "images at a time");
}

}  // namespace moat::cli
