#pragma once

#include "engine/tensor.h"

namespace moat::engine {

// a [m, k] times b [k, n] -> [m, n], floating and of one dtype.
Tensor matmul(const Tensor& a, const Tensor& b);

// x [rows, in], weight [out, in], bias [out] or undefined, residual [rows, out] or undefined ->
// x · weightᵀ + bias + residual, [rows, out], in x's dtype; beside a bfloat16 x the weight and bias
// are float32 (master weights) and so are their gradients, else all have one dtype. A row's result
// does not depend on how many rows there are.
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias,
              const Tensor& residual = {});

}  // namespace moat::engine
