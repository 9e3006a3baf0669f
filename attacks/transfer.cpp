#include "attacks/transfer.h"

#include <nlohmann/json.hpp>

namespace moat::attacks {

using namespace engine;

AttackResult transfer(const Model& model, const Victims& victims, const Transfer& a) {
  require(static_cast<bool>(a.source.forward), "a transfer attack needs a source model");
  AttackResult found = pgd(a.source, victims, a.climb);
  judge(model, victims, a.climb.steps, found);
  return found;
}

int64_t most_passes(const Transfer& a, int) { return most_passes(a.climb, a.source.routes) + 1; }

nlohmann::ordered_json constants_of(const Transfer& a) {
  nlohmann::ordered_json constants{{"source", a.from}};
  constants.update(constants_of(a.climb));
  return constants;
}

}  // namespace moat::attacks
