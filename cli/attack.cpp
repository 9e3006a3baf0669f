#include <memory>
#include <optional>
#include <variant>

#include "cli/attack_settings.h"
#include "cli/evaluation.h"
#include "cli/image_options.h"
#include "engine/names.h"
#include "train/objective.h"

namespace moat::cli {

using engine::require;
using engine::text;

namespace {

struct AttackOptions {
  SubjectOptions subject;
  std::string out, attack = "pgd", source;
  ImageOptions images;
  BallOptions ball;
  AttackSettings settings;
};

// Where a transfer attack takes its points from; nothing for others.
std::optional<Subject> open_source(const attacks::Attack& attack, const AttackOptions& o,
                                   const Globals& globals) {
  const bool is_transfer = std::holds_alternative<attacks::Transfer>(attack);
  if (is_transfer == o.source.empty())
    throw engine::UsageError(
        text("--attack transfer needs a --source, and no other attack takes one; got --attack ",
             o.attack, o.source.empty() ? " without one" : " with one"));
  if (!is_transfer) return std::nullopt;
  return open_subject({o.source}, globals);
}

// `climbed`: the model whose gradient the attack takes.
void require_suitable(const AttackSettings& settings, const models::Classifier& climbed) {
  const int others = climbed.settings().classes - 1;
  if (settings.targets.value_or(0) > others)
    throw engine::UsageError(text("--targets must be at most ", others,
                                  ", the model's other classes, got ", *settings.targets));
  const std::string& name = climbed.settings().name;
  if (settings.gate && !climbed.has_gates())
    throw engine::UsageError(
        text("--gate is for models with gates, and ", name, " is dense; leave it out"));
  if (settings.auxiliary && !climbed.has_auxiliary_losses())
    throw engine::UsageError(text("--auxiliary is for a v-moe with model.importance above 0, and ",
                                  name, " has no auxiliary losses; leave it out"));
}

// What the attack itself would refuse, in the words of the options and before images are read.
void require_fitting(const std::string& name, const attacks::Attack& attack,
                     const attacks::ThreatModel& threat, const attacks::Model& model,
                     const models::Classifier& classifier) {
  if (std::holds_alternative<attacks::CarliniWagner>(attack) && threat.norm != engine::Norm::l2)
    throw engine::UsageError(text("--attack ", name,
                                  " minimises the L2 norm; give --norm l2 and a radius of it, as "
                                  "in --eps 0.5"));
  if (std::holds_alternative<attacks::RouteAttack>(attack) && !(model.along && model.routes > 1))
    throw engine::UsageError(text("--attack ", name,
                                  " is for models whose gate chooses a route for an image, and ",
                                  classifier.settings().name, " has none"));
}

// With the gate asked for, or else at both.
attacks::Protocol protocol_of(const AttackOptions& o, const attacks::Attack& attack,
                              const attacks::Model& model) {
  if (o.settings.gate) return {o.attack, {{text(o.attack, " ", *o.settings.gate), attack}}};
  return {o.attack, attacks::at_both_gates(o.attack, attack, attacks::Against::correct, model)};
}

void attack_command(const AttackOptions& options, const Globals& globals) {
  Subject subject = open_subject(options.subject, globals);
  const train::Config config = set_up(subject, options.images, globals);
  const attacks::ThreatModel threat = threat_of(options.ball, subject);
  attacks::Attack attack = find_attack(options.attack, threat, options.settings, config.run.seed);
  const std::optional<Subject> source = open_source(attack, options, globals);
  models::Classifier& model = subject.loaded.model;
  require_suitable(options.settings, source ? source->loaded.model : model);
  if (source) {
    auto& transfer = std::get<attacks::Transfer>(attack);
    transfer.source = train::attack_model(source->loaded.model);  // which refers to it
    transfer.from = source->sha256;
  }
  const attacks::Model attacked = train::attack_model(model);
  require_fitting(options.attack, attack, threat, attacked, model);
  const attacks::Protocol protocol = protocol_of(options, attack, attacked);
  const data::ImageSet set = load_for(subject.loaded, config, options.images);
  if (source) load_for(source->loaded, config, options.images.split, 1);  // of the same size
  const FinishedEvaluation done =
      evaluate_into("--out FOLDER", options.out,
                    {model, subject.file.string(), subject.sha256, selected_on(subject), set,
                     threat, options.images.batch, 0, config.run.seed},
                    protocol, globals);
  print(globals, done.report, unfinished_line(subject) + done.headline);
}

}  // namespace

void add_attack(CLI::App& app, Globals& globals) {
  const auto o = std::make_shared<AttackOptions>();
  CLI::App& command =
      add_command(app, globals,
                  {"attack", "one attack with settings of its own; writes adversarial examples",
                   "moat attack runs/digits-at-1 --eps 0.1 --steps 20 --out runs/attacked"},
                  [o, &globals] { attack_command(*o, globals); });
  add_subject_options(command, o->subject);
  command.add_option("--out", o->out, "folder for the examples and the report")->required();
  command.add_option("--attack", o->attack, engine::listed(attack_names()));
  command.add_option("--source", o->source,
                     "run or checkpoint whose adversarial images are shown (transfer)");
  add_ball_options(command, o->ball);
  command.add_option("--step", o->settings.step,
                     "step size; eps/4, of sign-steps eps/steps, unless given or 0");
  command.add_option("--steps", o->settings.steps, "steps");
  command.add_option("--restarts", o->settings.restarts, "random restarts");
  command.add_option("--targets", o->settings.targets, "classes aimed at (apgd-t, fab-t)");
  command.add_option("--queries", o->settings.queries, "queries (square)");
  command.add_option("--draws", o->settings.draws, "points in the ball, and on it (noise)");
  command.add_option("--momentum", o->settings.momentum, "of the gradient (pgd, mim)");
  command.add_option("--loss", o->settings.loss, "cross-entropy, margin or dlr");
  command.add_option("--gate", o->settings.gate,
                     "gradient through the gates: through or blocked; both, and the worse counts, "
                     "unless given");
  command.add_option("--auxiliary", o->settings.auxiliary,
                     "weight of a v-moe's auxiliary losses in what is climbed; 0 unless given");
  add_image_options(command, o->images);
}

}  // namespace moat::cli
