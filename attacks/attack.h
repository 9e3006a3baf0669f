#pragma once

#include <variant>
#include <vector>

#include "attacks/apgd.h"
#include "attacks/carlini_wagner.h"
#include "attacks/deepfool.h"
#include "attacks/fab.h"
#include "attacks/moe_attacks.h"
#include "attacks/noise.h"
#include "attacks/pgd.h"
#include "attacks/square.h"
#include "attacks/transfer.h"

namespace moat::attacks {

// Any of the attacks, with its settings.
using Attack =
    std::variant<Pgd, Apgd, Fab, DeepFool, CarliniWagner, Square, Noise, RouteAttack, Transfer>;

AttackResult run(const Model& model, const Victims& victims, const Attack& attack);

// The gates that gradients of the attack go through, or are blocked at: those of the model that it
// climbs (of a transfer the source). None where there is no gradient, or it passes no gate: along a
// given route, of the router alone, estimated from values.
std::vector<Gate*> gates_of(Attack& attack);

// Every constant, in the order to print them.
nlohmann::ordered_json constants_of(const Attack& attack);

// Passes through a model with so many routes, forward and backward, for an image that withstands
// the attack; an estimate.
int64_t most_passes(const Attack& attack, int routes);

}  // namespace moat::attacks
