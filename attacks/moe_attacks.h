#pragma once

#include <optional>
#include <variant>

#include "attacks/pgd.h"

namespace moat::attacks {

// What a stage of an attack may be; it keeps the worst point.
using Climb = std::variant<Pgd>;

// Which routes an attack goes along, ranked by the scores at the image itself.
enum class Routes {
  own,     // the largest: where the image goes
  second,  // the second largest
  others,  // all but its own, by falling score
  each,    // all of them
};
const char* name_of(Routes routes);

// Climbs once per route, each time the images that still resist, with the route as Victims::routes:
// what `strike` does with it is its objective's affair. With `steer` two climbs, the second from
// the point that the first came to (Start::given).
struct RouteAttack {
  Routes routes = Routes::own;
  std::optional<Climb> steer = std::nullopt;
  Climb strike = Pgd{};
};

// The forms of it, from a climb whose objective's path, what it climbs and steer they set.
RouteAttack frozen_route(Pgd climb);          // along the image's own route: experts alone (RA-E)
RouteAttack second_route(Pgd climb);          // along its second expert (RT-ER, Zhang et al. 2025)
RouteAttack every_route(Pgd climb);           // along each in turn
RouteAttack router_only(Pgd climb);           // away from the image's route
RouteAttack joint(Pgd climb, double lambda);  // its loss, and away from the image's route
// Towards each other route, then `strike` as it is from there.
RouteAttack steer_then_strike(Pgd steer, Pgd strike);

// An image that resists comes back as the first climb left it. Needs a model with routes and
// scores. Throws Error without.
AttackResult route_attack(const Model& model, const Victims& victims, const RouteAttack& settings);

// Passes through a model with so many routes, forward and backward, for an image that withstands
// it.
int64_t most_passes(const RouteAttack& settings, int routes);

nlohmann::ordered_json constants_of(const RouteAttack& settings);

}  // namespace moat::attacks
