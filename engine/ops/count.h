#pragma once

#include "engine/tensor.h"

namespace moat::engine {

// Counts of integers that stay on the device: nothing waits for them. No gradient.

// How many elements of two int32 tensors of one shape are equal; int64 [1].
Tensor count_equal(const Tensor& a, const Tensor& b);

// How many elements of an int32 tensor are 0, 1, …, bins - 1; others are not counted. int32 [bins].
Tensor bin_count(const Tensor& x, int bins);

}  // namespace moat::engine
