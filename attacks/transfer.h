#pragma once

#include <string>

#include "attacks/pgd.h"

namespace moat::attacks {

// Points that fool another model, shown to this one (Papernot et al. 2016): MIM climbs the
// margin of `source` to its last step, as the first misclassified point would lie too close to the
// boundary to fool anyone else (Dong et al. 2018).
struct Transfer {
  Model source = {};
  std::string from = {};  // what a report calls it
  Pgd climb = {.threat = {},
               .steps = 50,
               .start = Start::center,
               .objective = {.loss = Loss::margin, .gate = Gate::blocked},
               .keep = Keep::last,
               .momentum = 1};
};

// Passes of both models count. Throws without a source.
AttackResult transfer(const Model& model, const Victims& victims, const Transfer& settings);

int64_t most_passes(const Transfer& settings, int routes);
nlohmann::ordered_json constants_of(const Transfer& settings);

}  // namespace moat::attacks
