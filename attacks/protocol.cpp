#include "attacks/protocol.h"

#include <nlohmann/json.hpp>

#include "engine/names.h"

namespace moat::attacks {

using namespace engine;

const char* name_of(Against against) {
  return against == Against::correct ? "images right clean" : "survivors";
}

namespace {

struct Row {
  const char* name;
  const char* attack;
  int steps;  // 0: FGSM
};
constexpr Row kProtocols[] = {{"pgd-50@1", "pgd-50", 50},
                              {"pgd-20@1", "pgd-20", 20},
                              {"pgd-10@1", "pgd-10", 10},
                              {"fgsm@1", "fgsm", 0}};

Pgd settings_of(const Row& row, const ThreatModel& threat, uint64_t seed) {
  Pgd a = fgsm(threat);
  if (row.steps > 0)
    a = {.threat = threat, .steps = row.steps, .step = threat.eps / 4, .start = Start::uniform};
  a.keep = Keep::worst;
  a.seed = seed;
  return a;
}

}  // namespace

nlohmann::ordered_json constants_of(const Protocol& protocol) {
  nlohmann::ordered_json attacks = nlohmann::ordered_json::array();
  for (const NamedAttack& a : protocol.attacks) {
    nlohmann::ordered_json attack = {{"name", a.name}, {"against", name_of(a.against)}};
    attack.update(constants_of(a.attack));
    attack.update({{"batch_norm", "evaluation mode"}, {"precision", "float32"}});
    attacks.push_back(attack);
  }
  return {{"name", protocol.name}, {"attacks", attacks}};
}

std::vector<std::string> protocol_names() {
  std::vector<std::string> names;
  for (const Row& row : kProtocols) names.emplace_back(row.name);
  return names;
}

Protocol find_protocol(const std::string& name, const ThreatModel& threat, uint64_t seed,
                       const Model& model) {
  const Row& row =
      find_named("the protocol", name, kProtocols, [](const Row& known) { return known.name; });
  Protocol protocol{name, {}};
  Pgd settings = settings_of(row, threat, seed);
  if (!model.routed) {
    protocol.attacks.push_back({row.attack, settings});
    return protocol;
  }
  for (Gate gate : {Gate::open, Gate::blocked}) {
    settings.objective.gate = gate;
    protocol.attacks.push_back({text(row.attack, " ", name_of(gate)), settings});
  }
  return protocol;
}

}  // namespace moat::attacks
