#include "attacks/transfer.h"

#include <nlohmann/json.hpp>

namespace moat::attacks {

using namespace engine;

AttackResult transfer(const Model& model, const Victims& victims, const Transfer& a) {
  require(static_cast<bool>(a.source.forward), "a transfer attack needs a source model");
  AttackResult found = pgd(a.source, victims, a.climb);
  const Probe seen = without_gradient(model, found.adversarial, victims, {.loss = Loss::margin});
  const std::vector<int32_t> predicted = seen.predicted.to_vector<int32_t>(),
                             labels = victims.labels.to_vector<int32_t>();
  found.fooled_at.clear();
  for (size_t i = 0; i < labels.size(); ++i)
    found.fooled_at.push_back(predicted[i] != labels[i] ? a.climb.steps : -1);
  found.forwards += seen.forwards;
  return found;
}

int64_t most_passes(const Transfer& a, int) { return most_passes(a.climb, a.source.routes) + 1; }

nlohmann::ordered_json constants_of(const Transfer& a) {
  nlohmann::ordered_json constants{{"source", a.from}};
  constants.update(constants_of(a.climb));
  constants["keep"] = "the last point";
  return constants;
}

}  // namespace moat::attacks
