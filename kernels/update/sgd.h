#pragma once

#include "kernels/target.h"

namespace moat::kernels {

// PyTorch's SGD over a flat buffer, in place:
//   g = gradients + weight_decay · weights
//   velocity = momentum · velocity + g
//   weights -= lr · velocity
// A velocity of zeros makes the first step PyTorch's. The gradients are not changed.
struct Sgd {
  void* weights;          // [count]
  const void* gradients;  // [count]
  void* velocity;         // [count]; nullptr only without momentum
  int64_t count;
  double lr, momentum, weight_decay;
  Dtype dtype;  // f32 or f64: master weights
  // In the target's memory, or nullptr: a factor of lr, so that a recorded graph follows a
  // schedule.
  const double* lr_factor = nullptr;
  // In the target's memory, or nullptr: where *skip is not 0 nothing is changed, so that a step of
  // a recorded graph leaves parameters alone when their gradient is not finite.
  const int64_t* skip = nullptr;
  // [count] in the target's memory: weights where it is 0 are not decayed; or nullptr.
  const uint8_t* decayed = nullptr;
};
Status sgd(Cpu, const Sgd&);
Status sgd(Cuda, const Sgd&);

}  // namespace moat::kernels
