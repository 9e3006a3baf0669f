#pragma once

#include "engine/tensor.h"

namespace moat::engine {

// NaN and infinities of a floating tensor, at memory speed.
Tensor find_nonfinite(const Tensor& x);  // int64 [2]: how many, and the first one's place
// The same on the host, which waits for it.
int64_t count_nonfinite(const Tensor& x);
int64_t first_nonfinite(const Tensor& x);  // index in row-major order; -1 when there is none

}  // namespace moat::engine
