#pragma once

#include "engine/tensor.h"

namespace moat::engine {

// x [..., width], each row of the last axis normalised, PyTorch's LayerNorm with the biased
// variance of the row (Ba, Kiros and Hinton 2016):
//   y = gamma (x - mean) / sqrt(var + epsilon) + beta
// gamma, beta float32 [width] (float64 for float64 x), both undefined for a norm without affine.
// Differentiable with respect to x, gamma, beta. A row's result does not depend on the others.
// Throws for other shapes and dtypes, and for an epsilon that is not positive.
Tensor layer_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, double epsilon = 1e-6);

}  // namespace moat::engine
