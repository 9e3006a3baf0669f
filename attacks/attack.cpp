#include "attacks/attack.h"

#include <nlohmann/json.hpp>

namespace moat::attacks {

namespace {

AttackResult attack_with(const Model& model, const Victims& victims, const Pgd& settings) {
  return pgd(model, victims, settings);
}
AttackResult attack_with(const Model& model, const Victims& victims, const Square& settings) {
  return square_attack(model, victims, settings);
}
AttackResult attack_with(const Model& model, const Victims& victims, const Noise& settings) {
  return noise(model, victims, settings);
}

}  // namespace

AttackResult run(const Model& model, const Victims& victims, const Attack& attack) {
  return std::visit([&](const auto& settings) { return attack_with(model, victims, settings); },
                    attack);
}

nlohmann::ordered_json constants_of(const Attack& attack) {
  return std::visit([](const auto& settings) { return constants_of(settings); }, attack);
}

}  // namespace moat::attacks
