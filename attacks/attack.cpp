#include "attacks/attack.h"

#include <nlohmann/json.hpp>

namespace moat::attacks {

namespace {

AttackResult attack_with(const Model& model, const Victims& victims, const Pgd& settings) {
  return pgd(model, victims, settings);
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

}  // namespace

AttackResult run(const Model& model, const Victims& victims, const Attack& attack) {
  return std::visit([&](const auto& settings) { return attack_with(model, victims, settings); },
                    attack);
}

int64_t most_passes(const Attack& attack, int routes) {
  return std::visit([&](const auto& settings) { return most_passes(settings, routes); }, attack);
}

nlohmann::ordered_json constants_of(const Attack& attack) {
  return std::visit([](const auto& settings) { return constants_of(settings); }, attack);
}

}  // namespace moat::attacks
