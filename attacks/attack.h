#pragma once

#include <variant>

#include "attacks/carlini_wagner.h"
#include "attacks/deepfool.h"
#include "attacks/fab.h"
#include "attacks/pgd.h"

namespace moat::attacks {

// Any of the attacks, with its settings.
using Attack = std::variant<Pgd, Fab, DeepFool, CarliniWagner>;

AttackResult run(const Model& model, const Victims& victims, const Attack& attack);

// Every constant, in the order to print them.
nlohmann::ordered_json constants_of(const Attack& attack);

}  // namespace moat::attacks
