#pragma once

#include <span>
#include <vector>

namespace moat::train {

enum class Box { open, pixels };  // the attacker may leave [0, 1], or stays in it

// The L∞ distance below which the hard route of a linear router, argmax of weight · x + bias,
// stays, exactly: no point nearer changes it, one just beyond does. Per other expert j the push
// w = W_j - W_i gains Σ_p |w_p| min(eps, room_p), room_p being how far pixel p may go; without the
// box, the lead over ‖w‖₁. +inf where no allowed point reaches another route.
// weight [experts · pixels], bias [experts], image [pixels].
double linear_route_radius(std::span<const double> weight, std::span<const double> bias,
                           std::span<const double> image, Box box);

}  // namespace moat::train
