#pragma once

#include "engine/tensor.h"

namespace moat::engine {

struct AdamwOptions {
  double lr = 1e-3;
  double beta1 = 0.9, beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0;  // decoupled: a share lr · weight_decay of each weight
};

// What AdamW remembers of the steps before: m, v and the powers of kernels/update/adamw.h.
struct AdamwMoments {
  const Tensor &first, &second;  // like the weights, zeros before the first step
  const Tensor& powers;          // float64 [2], ones before the first step
};

// One step of AdamW (Loshchilov & Hutter 2019) as PyTorch computes it, in place, over flat buffers
// of one shape (float32 or float64); the formula is in kernels/update/adamw.h.
// `failures`: int64 [1], where it is not 0 nothing is changed; or undefined.
// `lr_factor`: float64 [1], a factor of options.lr; or undefined.
// `decayed`: uint8 like the weights, where it is 0 they do not decay; or undefined.
void adamw_step(const Tensor& weights, const Tensor& gradients, const AdamwMoments& moments,
                const AdamwOptions& options, const Tensor& failures = {},
                const Tensor& lr_factor = {}, const Tensor& decayed = {});

}  // namespace moat::engine
