#pragma once

#include <vector>

namespace moat::attacks {

// The shape that a query of Square (L2) adds to a window: two pyramids of opposite sign side by
// side, [side, side] of Euclidean norm 1, sloping down from their centres as 1/1² + … + 1/c²
// (Andriushchenko et al. 2020, section 3.3 and equation 2). side >= 1.
std::vector<double> square_bump(int side);

}  // namespace moat::attacks
