#pragma once

#include "kernels/target.h"

namespace moat::kernels {

// AdamW (Loshchilov & Hutter 2019, algorithm 2) over a flat buffer, in place, in PyTorch's order;
// with r = lr · lr_factor, at step t = 1, 2, …:
//   weights -= r · weight_decay · weights
//   m += (1 - beta1) · (gradients - m)
//   v = beta2 · v + (1 - beta2) · gradients²
//   weights -= r / (1 - beta1^t) · m / (sqrt(v) / sqrt(1 - beta2^t) + eps)
// The gradients are not changed.
struct Adamw {
  void* weights;          // [count]
  const void* gradients;  // [count]
  void* first_moment;     // [count] m, zeros before the first step
  void* second_moment;    // [count] v, likewise
  // [2] in the target's memory: beta1^(t-1) and beta2^(t-1), both 1 before the first step. A step
  // multiplies them, so that a recorded graph corrects each of its launches by the launch's own t.
  double* powers;
  int64_t count;
  double lr, beta1, beta2, eps, weight_decay;
  Dtype dtype;  // f32 or f64: master weights
  // In the target's memory, or nullptr: as in kernels/update/sgd.h.
  const double* lr_factor = nullptr;
  const int64_t* skip = nullptr;
  const uint8_t* decayed = nullptr;
};
Status adamw(Cpu, const Adamw&);
Status adamw(Cuda, const Adamw&);

}  // namespace moat::kernels
