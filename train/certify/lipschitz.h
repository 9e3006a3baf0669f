#pragma once

#include <limits>
#include <span>
#include <vector>

#include "train/certify/pairs.h"

namespace moat::train {

// Certified radii from Lipschitz constants, in units of L∞ distance (after Zhang et al. 2025,
// section 5; where their theorem needs it, constants are those of differences F_a - F_b).

// How the outputs can move around an image: for |d|∞ <= within,
// (F_a - F_b)(x + d) >= difference.at(a, b) - rate(a, b) |d|∞.
struct Cone {
  Pairs difference, rate;
  double within = std::numeric_limits<double>::infinity();
};

// The distance up to which class a wins: min over b of difference / rate, at most `within`.
double radius_of(const Cone& cone, int a);

// One expert of a mixture at an image.
struct ConeOfExpert {
  Share weight;          // a_i(x)
  double gate_rate = 0;  // Lipschitz constant of a_i
  Pairs largest;         // |f_i,a - f_i,b| anywhere (1 for probabilities)
  Cone cone;             // of f_i
};

// F = Σ a_i f_i, the experts given being all that have a weight within `within`:
//   rate(a, b) = Σ_i [gate_rate_i largest_i(a, b) + a_i(x) rate_i(a, b)],
// because Σ_i (a_i(x + d) - a_i(x)) (f_i,a - f_i,b)(x + d) is at most the first part times |d|.
Cone mixed(std::span<const ConeOfExpert> experts, double within);

// (1 - alpha) F_S + alpha F_R.
Cone averaged(const Cone& standard, const Cone& robust, double alpha);

// The softmax of such logits: every difference of two probabilities moves by at most half of the
// largest change among differences of logits.
Cone of_probabilities(const Cone& logits);

// The dual model on probabilities, whatever the standard model says: F_R's lead has to stay above
// (1 - alpha) / alpha. `robust` is a cone of probabilities; 0 for alpha <= 1/2.
//   min_b [alpha m_b - (1 - alpha)]_+ / (alpha rate_b)
double dual_radius(const Cone& robust, int a, double alpha);

}  // namespace moat::train
