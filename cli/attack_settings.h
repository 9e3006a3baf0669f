#pragma once

#include <optional>
#include <string>
#include <vector>

#include "attacks/attack.h"

namespace moat::cli {

// What a person may say about an attack; what is not said keeps the attack's own default.
struct AttackSettings {
  std::optional<int> steps = {}, restarts = {}, targets = {}, queries = {}, draws = {};
  std::optional<std::string> step = {}, loss = {}, gate = {};
  std::optional<double> momentum = {}, auxiliary = {};
};

// "pgd", "apgd-ce", … as `moat attack --attack` takes them.
std::vector<std::string> attack_names();

// Throws UsageError for an unknown name, a value out of range, and a setting that the attack does
// not have.
attacks::Attack find_attack(const std::string& name, const attacks::ThreatModel& threat,
                            const AttackSettings& settings, uint64_t seed);

}  // namespace moat::cli
