#pragma once

#include "engine/tensor.h"

namespace moat::engine {

// NaN and infinities of a floating tensor, at memory speed. int64 [2]: how many, and the first
// one's place in row-major order.
Tensor find_nonfinite(const Tensor& x);
int64_t count_nonfinite(const Tensor& x);  // on the host, which waits for it

}  // namespace moat::engine
