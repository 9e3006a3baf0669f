#include "attacks/protocol.h"

#include <nlohmann/json.hpp>

namespace moat::attacks {

using namespace engine;

const char* name_of(Against against) {
  return against == Against::correct ? "images right clean" : "survivors";
}

std::vector<NamedAttack> at_both_gates(const std::string& name, Attack attack, Against against,
                                       const Model& model) {
  const auto* transfer = std::get_if<Transfer>(&attack);
  const std::vector<Gate*> gates = gates_of(attack);
  if (gates.empty() || !(transfer ? transfer->source : model).routed)
    return {{name, attack, against}};
  std::vector<NamedAttack> both;
  for (const Gate form : {Gate::open, Gate::blocked}) {
    for (Gate* gate : gates) *gate = form;
    both.push_back({text(name, " ", name_of(form)), attack, against});
  }
  return both;
}

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

}  // namespace moat::attacks
