#include "attacks/protocol.h"

#include <nlohmann/json.hpp>

namespace moat::attacks {

using namespace engine;

const char* name_of(Against against) {
  return against == Against::correct ? "images right clean" : "survivors";
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
