#pragma once

#include <variant>

#include "attacks/noise.h"
#include "attacks/pgd.h"
#include "attacks/square.h"

namespace moat::attacks {

// Any of the attacks, with its settings.
using Attack = std::variant<Pgd, Square, Noise>;

AttackResult run(const Model& model, const Victims& victims, const Attack& attack);

// Every constant, in the order to print them.
nlohmann::ordered_json constants_of(const Attack& attack);

}  // namespace moat::attacks
