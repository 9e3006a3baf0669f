#include <memory>

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
  std::string attack = "pgd", norm = "linf", eps, step, loss = "cross-entropy", gate = "through";
  int steps = 10, restarts = 1, batch = 256;
  double momentum = 0;
  int64_t limit = 0;
};

template <class Value>
Value choose(const std::string& given, const char* what,
             std::initializer_list<std::pair<const char*, Value>> choices) {
  return engine::find_named(what, given, choices, [](const auto& row) { return row.first; }).second;
}

attacks::Pgd settings_of(const AttackOptions& o, const train::Config& config, uint64_t seed) {
  const double eps = o.eps.empty() ? config.train.eps : train::parse_eps(o.eps, "--eps", o.norm);
  attacks::Pgd a =
      attacks::fgsm({choose<engine::Norm>(o.norm, "--norm",
                                          {{"linf", engine::Norm::linf}, {"l2", engine::Norm::l2}}),
                     eps});
  if (choose<int>(o.attack, "--attack", {{"pgd", 0}, {"fgsm", 1}}) == 0) {
    a.steps = o.steps;
    a.step = o.step.empty() ? eps / 4 : train::parse_number(o.step, "--step");
    a.restarts = o.restarts;
    a.start = attacks::Start::uniform;
    a.momentum = o.momentum;
  }
  a.objective.loss = choose<attacks::Loss>(
      o.loss, "--loss",
      {{"cross-entropy", attacks::Loss::cross_entropy}, {"margin", attacks::Loss::margin}});
  a.objective.gate = choose<attacks::Gate>(
      o.gate, "--gate", {{"through", attacks::Gate::open}, {"blocked", attacks::Gate::blocked}});
  a.seed = seed;
  if (a.steps < 1 || a.restarts < 1 || !(a.step >= 0) || o.batch < 1 || o.limit < 0 ||
      !(a.momentum >= 0))
    throw engine::UsageError(
        "--steps, --restarts and --batch must be at least 1, --step, --momentum and --limit at "
        "least 0");
  return a;
}

void attack_command(const AttackOptions& options, const Globals& globals) {
  Subject subject = open_subject(options.subject, globals);
  train::Config config = subject.config;
  if (!options.data.empty()) config.data.name = options.data;
  if (!options.data_path.empty()) config.data.path = options.data_path;
  config.run = with_globals(config.run, globals);
  set_up(config.run);
  const attacks::Pgd settings = settings_of(options, config, config.run.seed);
  models::Classifier& model = subject.loaded.model;
  const data::ImageSet set = load_for(model, config, options.split, options.limit);
  const attacks::Protocol protocol{options.attack,
                                   {{text(options.attack, "-", settings.steps), settings}}};
  evaluate_into(options.out,
                {model, subject.file.string(), subject.sha256, "unknown", set, settings.threat,
                 options.batch},
                protocol, globals);
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
  command.add_option("--attack", o->attack, "pgd or fgsm");
  command.add_option("--norm", o->norm, "linf or l2");
  command.add_option("--eps", o->eps, "radius in pixels of [0, 1]: 8/255, 0.031");
  command.add_option("--step", o->step, "step size; eps/4 unless given");
  command.add_option("--steps", o->steps, "steps");
  command.add_option("--restarts", o->restarts, "random restarts");
  command.add_option("--momentum", o->momentum, "of the gradient (MIM)");
  command.add_option("--loss", o->loss, "cross-entropy or margin");
  command.add_option("--gate", o->gate, "gradient through the router's gate: through or blocked");
  command.add_option("--data", o->data, "data set; the run's own unless given");
  command.add_option("--root", o->data_path, "folder of its files");
  command.add_option("--split", o->split, "train, validation or test");
  command.add_option("--limit", o->limit, "first n images; 0: all");
  command.add_option("--batch", o->batch, "images at a time");
}

}  // namespace moat::cli
