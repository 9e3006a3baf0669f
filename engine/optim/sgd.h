#pragma once

#include "engine/tensor.h"
#include "kernels/update/sgd.h"

namespace moat::engine {

struct SgdOptions {
  double lr = 0.1;
  double momentum = 0;
  double weight_decay = 0;
};

// One step of PyTorch's SGD, in place, over flat buffers of one shape (float32 or float64):
//   g = gradients + weight_decay · weights, velocity = momentum · velocity + g,
//   weights -= lr · velocity.
// The velocity starts as zeros; it may be undefined without momentum.
// `failures`: int64 [1], where it is not 0 nothing is changed; or undefined.
// `lr_factor`: float64 [1], a factor of options.lr; or undefined.
// `decayed`: uint8 like the weights, where it is 0 they do not decay; or undefined.
void sgd_step(const Tensor& weights, const Tensor& gradients, const Tensor& velocity,
              const SgdOptions& options, const Tensor& failures = {}, const Tensor& lr_factor = {},
              const Tensor& decayed = {});

}  // namespace moat::engine
