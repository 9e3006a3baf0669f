#pragma once

#include "kernels/vision/conv2d.h"

namespace moat::kernels {

// Backward of y = activation(pre), pre = conv(x) · gate + bias + residual, where gate is one value
// per image, taken to be 1. One pass over y gives
//   d_pre  = d_y where y > 0, else 0        (activation none: d_y itself, d_pre may be nullptr)
//   d_gate = <d_pre, y - bias - residual>   per image, when wanted; without activation, bias and
//                                           residual this is the straight-through <d_y, y>
// The dot product runs in a fixed order in float32 or better.
struct ConvEpilogueGrad {
  const void* d_y;            // [n, pixels, channels]
  const void* y;              // like d_y
  const void* residual;       // like d_y or nullptr
  const void* const* biases;  // on the host, one [channels] per segment, float32 (float64 for
                              // float64 y), or nullptr
  void* d_pre;                // like d_y; nullptr is legal without activation
  void* d_gate;               // [n] float32 (float64 for float64 y), or nullptr
  const int* offsets;         // [segments + 1] on the host: image ranges of the biases
  int segments;
  int pixels, channels;
  ConvActivation activation;
  Dtype dtype;
};
Status conv_epilogue_grad(Cpu, const ConvEpilogueGrad&);
Status conv_epilogue_grad(Cuda, const ConvEpilogueGrad&);

}  // namespace moat::kernels
