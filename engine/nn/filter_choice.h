#pragma once

#include "engine/tensor.h"

namespace moat::engine {

// filter [c_out, r, s, c_in] with zeros in place of all but the `kept` filters of the largest
// |scores| [c_out]; equal ones stay or go together. The gradient of a score is that of its |score|
// as a factor of the filter, kept or not (straight-through), so that a filter can come back.
Tensor keep_filters(const Tensor& filter, const Tensor& scores, int kept);

}  // namespace moat::engine
