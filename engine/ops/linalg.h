#pragma once

#include "engine/tensor.h"

namespace moat::engine {

// a [m, k] times b [k, n] -> [m, n].
Tensor matmul(const Tensor& a, const Tensor& b);

// x [rows, in], weight [out, in], bias [out] or undefined -> x · weightᵀ + bias, [rows, out]. A
// row's result does not depend on how many rows there are.
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias);

}  // namespace moat::engine
