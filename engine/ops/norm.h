#pragma once

#include "engine/ops/vision.h"
#include "engine/tensor.h"

namespace moat::engine {

struct BatchNormOptions {
  double momentum = 0.1;  // running = (1 - momentum) running + momentum batch
  double epsilon = 1e-5;
};

// x [..., c] normalised per channel over all leading axes, PyTorch's BatchNorm2d:
//   y = activation(gamma (x - mean) / sqrt(var + epsilon) + beta + residual)
// gamma, beta float32 [c] (float64 for float64 x), both undefined for a norm without affine;
// residual of x's shape or undefined. Differentiable with respect to x, gamma, beta, residual.

// Batch statistics; updates running_mean and running_var (with the unbiased variance) in place when
// they are defined. Throws for fewer than two values per channel.
Tensor batch_norm_train(const Tensor& x, const Tensor& gamma, const Tensor& beta,
                        const Tensor& running_mean, const Tensor& running_var,
                        const Tensor& residual, Activation activation,
                        const BatchNormOptions& options = {});
// Running statistics, constants here.
Tensor batch_norm_eval(const Tensor& x, const Tensor& gamma, const Tensor& beta,
                       const Tensor& running_mean, const Tensor& running_var,
                       const Tensor& residual, Activation activation,
                       const BatchNormOptions& options = {});

// The filter and bias of a convolution [c_out, r, s, c_in] with the batch norm behind it folded in;
// of a bank [experts · c_out, r, s, c_in], each expert's with the same norm. Not differentiable.
struct FoldedConv {
  Tensor filter, bias;
};
FoldedConv fold_batch_norm(const Tensor& filter, const Tensor& gamma, const Tensor& beta,
                           const Tensor& running_mean, const Tensor& running_var,
                           const BatchNormOptions& options = {});

}  // namespace moat::engine
