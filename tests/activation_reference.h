#pragma once

#include <cmath>

#include "kernels/experts/expert_activation.h"

namespace moat::tests {

// What an activation makes of a pre-activation; of swiglu, what it makes of the gate.
inline double activated(kernels::ExpertActivation activation, double x) {
  using kernels::ExpertActivation;
  switch (activation) {
    case ExpertActivation::none:
      return x;
    case ExpertActivation::relu:
      return x > 0 ? x : 0;
    case ExpertActivation::gelu:
      return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    case ExpertActivation::gelu_tanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case ExpertActivation::swiglu:
      break;
  }
  return x / (1 + std::exp(-x));
}

}  // namespace moat::tests
