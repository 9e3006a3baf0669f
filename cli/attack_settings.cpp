#include "cli/attack_settings.h"

#include "engine/names.h"
#include "train/numbers.h"

namespace moat::cli {

using namespace attacks;
using engine::text;
using engine::UsageError;

namespace {

struct Row {
  const char* name;
  Attack attack;
};

Pgd pgd_attack(Loss loss = Loss::cross_entropy) {
  Pgd a;
  a.objective.loss = loss;
  return a;
}
Pgd momentum_attack() {
  Pgd a = pgd_attack();
  a.start = Start::center;
  a.momentum = 1;
  return a;
}
Apgd apgd_attack(Loss loss, int targets = 0) {
  Apgd a;
  a.objective.loss = loss;
  a.targets = targets;
  return a;
}

const std::vector<Row>& rows() {
  static const std::vector<Row> kRows = {
      {"pgd", pgd_attack()},
      {"fgsm", fgsm({})},
      {"mim", momentum_attack()},
      {"sign-steps", sign_steps({}, 0)},
      {"apgd-ce", apgd_attack(Loss::cross_entropy)},
      {"apgd-dlr", apgd_attack(Loss::dlr)},
      {"apgd-t", apgd_attack(Loss::dlr_targeted, 9)},
      {"fab", Fab{.targets = 0}},
      {"fab-t", Fab{}},
      {"square", Square{}},
      {"deepfool", DeepFool{}},
      {"carlini-wagner", CarliniWagner{}},
      {"noise", Noise{}},
      {"router-only", router_only(pgd_attack())},
      {"frozen-route", frozen_route(pgd_attack())},
      {"second-route", second_route(pgd_attack())},
      {"every-route", every_route(pgd_attack())},
      {"joint", joint(pgd_attack(), 1)},
      {"steer-then-strike", steer_then_strike(pgd_attack(), pgd_attack(Loss::margin))},
      {"transfer", Transfer{}},
  };
  return kRows;
}

template <class Value>
Value choose(const std::string& given, const char* what,
             std::initializer_list<std::pair<const char*, Value>> choices) {
  return engine::find_named(what, given, choices, [](const auto& row) { return row.first; }).second;
}
Loss loss_named(const std::string& name) {
  return choose<Loss>(
      name, "--loss",
      {{"cross-entropy", Loss::cross_entropy}, {"margin", Loss::margin}, {"dlr", Loss::dlr}});
}
Gate gate_named(const std::string& name) {
  return choose<Gate>(name, "--gate", {{"through", Gate::open}, {"blocked", Gate::blocked}});
}

int at_least(int lowest, int value, const char* option) {
  if (value < lowest) throw UsageError(text(option, " must be at least ", lowest, ", got ", value));
  return value;
}

// Puts what was said into an attack that has a place for it.
class Filler {
 public:
  Filler(const std::string& name, const ThreatModel& threat, const AttackSettings& said,
         uint64_t seed)
      : name_(name), threat_(threat), said_(said), seed_(seed) {}

  template <class Settings>
  void operator()(Settings& a) const {
    a.threat = threat_;
    if constexpr (requires { a.seed; }) a.seed = seed_;
    if constexpr (requires { a.steps; })
      set(a.steps, said_.steps, 1, "--steps");
    else
      refuse(said_.steps.has_value(), "--steps");
    if constexpr (requires { a.step; })
      fill_step(a);
    else
      refuse(said_.step.has_value(), "--step");
    fill_restarts(a);
    if constexpr (requires { a.queries; })
      set(a.queries, said_.queries, 1, "--queries");
    else
      refuse(said_.queries.has_value(), "--queries");
    if constexpr (requires { a.momentum; })
      fill_momentum(a.momentum);
    else
      refuse(said_.momentum.has_value(), "--momentum");
    if constexpr (requires { a.uniform_draws; }) {
      set(a.uniform_draws, said_.draws, 1, "--draws");
      set(a.extreme_draws, said_.draws, 1, "--draws");
    } else {
      refuse(said_.draws.has_value(), "--draws");
    }
    fill_targets(a);
    fill_objective(a);
  }
  void operator()(Transfer& a) const { (*this)(a.climb); }
  void operator()(RouteAttack& a) const {
    const auto fill = [&](auto& climb) { (*this)(climb); };
    std::visit(fill, a.strike);
    if (!a.steer) return;
    AttackSettings without_loss = said_;
    without_loss.loss.reset();  // the strike's affair
    without_loss.auxiliary.reset();
    const Filler steering(name_, threat_, without_loss, seed_);
    std::visit([&](auto& climb) { steering(climb); }, *a.steer);
  }

 private:
  void refuse(bool said, const char* option) const {
    if (said) throw UsageError(text(option, " is no setting of --attack ", name_));
  }
  void set(int& to, const std::optional<int>& said, int lowest, const char* option) const {
    if (said) to = at_least(lowest, *said, option);
  }
  void fill_step(Pgd& a) const {
    a.step = threat_.eps / (name_ == "fgsm" ? 1 : name_ == "sign-steps" ? a.steps : 4);
    if (!said_.step) return;
    const double step = train::parse_number(*said_.step, "--step");
    if (!(step >= 0)) throw UsageError(text("--step must be at least 0, got ", *said_.step));
    if (step > 0) a.step = step;
  }
  template <class Settings>
  void fill_restarts(Settings& a) const {
    if constexpr (requires { a.restarts; }) {
      bool has_draws = true;
      if constexpr (requires { a.start; }) has_draws = a.start != Start::center;
      if (has_draws) return set(a.restarts, said_.restarts, 1, "--restarts");
    }
    refuse(said_.restarts.has_value(), "--restarts");
  }
  void fill_momentum(double& to) const {
    if (!said_.momentum) return;
    to = *said_.momentum;
    if (!(to >= 0)) throw UsageError(text("--momentum must be at least 0, got ", to));
  }
  template <class Settings>
  void fill_targets(Settings& a) const {
    if constexpr (requires { a.targets; }) {
      if (a.targets > 0) return set(a.targets, said_.targets, 1, "--targets");
    }
    refuse(said_.targets.has_value(), "--targets");
  }
  // Not where the router alone is climbed, or a loss towards a target.
  static bool takes_loss(const Objective& o) {
    return o.climbed != Climbed::router && o.loss != Loss::dlr_targeted;
  }
  template <class Settings>
  void fill_objective(Settings& a) const {
    if constexpr (requires { a.objective; }) {
      refuse(said_.loss && !takes_loss(a.objective), "--loss");
      if (said_.loss) a.objective.loss = loss_named(*said_.loss);
      refuse(said_.auxiliary && a.objective.climbed == Climbed::router, "--auxiliary");
      if (said_.auxiliary) fill_auxiliary(a.objective.auxiliary);
    } else {
      refuse(said_.loss.has_value(), "--loss");
      refuse(said_.auxiliary.has_value(), "--auxiliary");
    }
  }
  void fill_auxiliary(double& to) const {
    to = *said_.auxiliary;
    if (!(to >= 0)) throw UsageError(text("--auxiliary must be at least 0, got ", to));
  }

  const std::string& name_;
  const ThreatModel& threat_;
  const AttackSettings& said_;
  uint64_t seed_;
};

}  // namespace

std::vector<std::string> attack_names() {
  std::vector<std::string> names;
  for (const Row& row : rows()) names.emplace_back(row.name);
  return names;
}

Attack find_attack(const std::string& name, const ThreatModel& threat, const AttackSettings& said,
                   uint64_t seed) {
  Attack attack =
      engine::find_named("--attack", name, rows(), [](const Row& row) { return row.name; }).attack;
  std::visit(Filler(name, threat, said, seed), attack);
  if (!said.gate) return attack;
  const std::vector<Gate*> gates = gates_of(attack);
  if (gates.empty())
    throw UsageError("--gate is no setting of --attack " + name + ", whose gradient passes none");
  for (Gate* gate : gates) *gate = gate_named(*said.gate);
  return attack;
}

}  // namespace moat::cli
