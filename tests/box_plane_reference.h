#pragma once

// The least move onto a plane inside the box, by bisection in float64, and what FAB makes of it.

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/update/ball_step.h"

namespace moat::tests {

struct LeastMove {
  std::vector<double> move;
  bool reaches = true;  // false: all the room is taken, and the plane is still beyond
  bool meets_box = false;
};

// Of a gradient that is not 0; the codes of AutoAttack have no such limit in L∞.
inline bool counts(double w, kernels::Norm norm) {
  return norm == kernels::Norm::l2 ? std::abs(w) >= 1e-8 : w != 0;
}

// The move of least norm from v in [0,1]^d that takes `excess` away from <w, v>.
inline LeastMove least_move(const std::vector<double>& v, const std::vector<double>& w,
                            double excess, kernels::Norm norm) {
  LeastMove out{.move = std::vector<double>(v.size())};
  const auto move_at = [&](double lambda) {
    double taken = 0;
    out.meets_box = false;
    for (size_t i = 0; i < v.size(); ++i) {
      out.move[i] = 0;
      if (!counts(w[i], norm)) continue;
      const double downhill = (w[i] > 0) == (excess > 0) ? -1 : 1;
      const double far = lambda * (norm == kernels::Norm::l2 ? std::abs(w[i]) : 1);
      const double stays = std::clamp(v[i] + downhill * far, 0.0, 1.0) - v[i];
      out.meets_box |= std::abs(stays) < 0.999 * far;
      out.move[i] = std::abs(stays) < far ? stays : downhill * far;
      taken += std::abs(w[i]) * std::abs(out.move[i]);
    }
    return taken;
  };
  double low = 0, high = 4e8;
  out.reaches = move_at(high) >= std::abs(excess);
  if (!out.reaches) return out;
  for (int i = 0; i < 200; ++i) {
    const double middle = (low + high) / 2;
    (move_at(middle) < std::abs(excess) ? low : high) = middle;
  }
  move_at(high);
  return out;
}

inline double norm_of(const std::vector<double>& move, kernels::Norm norm) {
  double largest = 0, square = 0;
  for (double m : move) {
    largest = std::max(largest, std::abs(m));
    square += m * m;
  }
  return norm == kernels::Norm::linf ? largest : std::sqrt(square);
}

// FAB's step from x, whose difference has the gradient w there.
inline std::vector<double> fab_reference(const std::vector<double>& x,
                                         const std::vector<double>& center,
                                         const std::vector<double>& w, double difference,
                                         kernels::Norm norm, double pull, double overshoot) {
  double at_center = difference;
  for (size_t i = 0; i < x.size(); ++i)
    if (counts(w[i], norm)) at_center += w[i] * (center[i] - x[i]);
  const std::vector<double> one = least_move(x, w, difference, norm).move,
                            two = least_move(center, w, at_center, norm).move;
  const double n1 = std::max(norm_of(one, norm), 1e-8), n2 = std::max(norm_of(two, norm), 1e-8),
               alpha = std::min(pull, n1 / (n1 + n2));
  std::vector<double> y;
  for (size_t i = 0; i < x.size(); ++i)
    y.push_back(std::clamp(
        (1 - alpha) * (x[i] + overshoot * one[i]) + alpha * (center[i] + overshoot * two[i]), 0.0,
        1.0));
  return y;
}

}  // namespace moat::tests
