#pragma once

#include "attacks/objective.h"

namespace moat::attacks {

// What one look at an image costs: calls of the model, and those of them that the gradient goes
// back through.
struct LookCost {
  int64_t forwards = 0, backwards = 0;
  int64_t passes() const { return forwards + backwards; }
};

// Of a model with so many routes.
LookCost cost_with_gradient(const Objective& objective, int routes);
LookCost cost_without_gradient(const Objective& objective, int routes);

}  // namespace moat::attacks
