#include "attacks/attack.h"

#include <nlohmann/json.hpp>

namespace moat::attacks {

namespace {

AttackResult attack_with(const Model& model, const Victims& victims, const Pgd& settings) {
  AttackResult found = pgd(model, victims, settings);
  if (settings.keep == Keep::last) judge(model, victims, settings.steps, found);
  return found;
}
AttackResult attack_with(const Model& model, const Victims& victims, const Apgd& settings) {
  return apgd(model, victims, settings);
}
AttackResult attack_with(const Model& model, const Victims& victims, const Fab& settings) {
  return fab(model, victims, settings);
}
AttackResult attack_with(const Model& model, const Victims& victims, const DeepFool& settings) {
  return deepfool(model, victims, settings);
}
AttackResult attack_with(const Model& model, const Victims& victims,
                         const CarliniWagner& settings) {
  return carlini_wagner(model, victims, settings);
}
AttackResult attack_with(const Model& model, const Victims& victims, const Square& settings) {
  return square_attack(model, victims, settings);
}
AttackResult attack_with(const Model& model, const Victims& victims, const Noise& settings) {
  return noise(model, victims, settings);
}
AttackResult attack_with(const Model& model, const Victims& victims, const RouteAttack& settings) {
  return route_attack(model, victims, settings);
}
AttackResult attack_with(const Model& model, const Victims& victims, const Transfer& settings) {
  return transfer(model, victims, settings);
}

const char* kind_of(const Pgd&) { return "pgd"; }
const char* kind_of(const Apgd&) { return "apgd"; }
const char* kind_of(const Fab&) { return "fab"; }
const char* kind_of(const DeepFool&) { return "deepfool"; }
const char* kind_of(const CarliniWagner&) { return "carlini-wagner"; }
const char* kind_of(const Square&) { return "square"; }
const char* kind_of(const Noise&) { return "noise"; }
const char* kind_of(const RouteAttack&) { return "along routes"; }
const char* kind_of(const Transfer&) { return "transfer"; }

using Gates = std::vector<Gate*>;
template <class Settings>
Gates gates_in(Settings& a) {
  if constexpr (requires { a.objective; }) {
    const Objective& o = a.objective;
    const bool passes = o.climbed != Climbed::router && o.path != Path::given && o.samples == 0;
    return passes ? Gates{&a.objective.gate} : Gates{};
  } else if constexpr (requires { a.gate; }) {
    return {&a.gate};
  } else {
    return {};
  }
}
Gates gates_in(RouteAttack& a) {
  const auto in_climb = [](auto& climb) { return gates_in(climb); };
  Gates gates = std::visit(in_climb, a.strike);
  if (!gates.empty() && a.steer)  // which passes none itself, and is printed like the strike
    std::visit([&](auto& climb) { gates.push_back(&climb.objective.gate); }, *a.steer);
  return gates;
}
Gates gates_in(Transfer& a) { return gates_in(a.climb); }

template <class Settings>
ThreatModel threat_of(const Settings& settings) {
  return settings.threat;
}
ThreatModel threat_of(const RouteAttack& settings) {
  return std::visit([](const auto& climb) { return climb.threat; }, settings.strike);
}
ThreatModel threat_of(const Transfer& settings) { return settings.climb.threat; }

}  // namespace

AttackResult run(const Model& model, const Victims& victims, const Attack& attack) {
  return std::visit([&](const auto& settings) { return attack_with(model, victims, settings); },
                    attack);
}

std::vector<Gate*> gates_of(Attack& attack) {
  return std::visit([](auto& settings) { return gates_in(settings); }, attack);
}

int64_t most_passes(const Attack& attack, int routes) {
  return std::visit([&](const auto& settings) { return most_passes(settings, routes); }, attack);
}

nlohmann::ordered_json constants_of(const Attack& attack) {
  return std::visit(
      [](const auto& settings) {
        const ThreatModel threat = threat_of(settings);
        nlohmann::ordered_json all = {
            {"attack", kind_of(settings)}, {"norm", name_of(threat.norm)}, {"eps", threat.eps}};
        all.update(constants_of(settings));
        return all;
      },
      attack);
}

}  // namespace moat::attacks
