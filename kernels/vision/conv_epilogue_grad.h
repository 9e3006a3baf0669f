#pragma once

#include "kernels/vision/conv2d.h"

namespace moat::kernels {

// Backward of y = activation(pre), pre = conv(x) · gate + bias + residual, where gate is one value
// per image, taken to be 1. One pass over y gives
//   d_pre  = d_y where y > 0, else 0        (activation none: d_y itself, d_pre may be nullptr)
//   d_gate = <d_pre, y - bias - residual>   per image, when wanted; without activation, bias and
//                                           residual this is the straight-through <d_y, y>
// The dot product runs in a fixed order in float32 or better, and for each image alone.
//
// Images offsets[s] .. offsets[s + 1] have row s of `bias`. Offsets start at 0, never fall and end
// at n; on CUDA, where they are not looked at before a launch, an image outside of every segment
// has no bias.
struct ConvEpilogueGrad {
  const void* d_y;         // [n, pixels, channels]
  const void* y;           // like d_y
  const void* residual;    // like d_y or nullptr
  const void* bias;        // [segments, channels], float32 (float64 for float64 y), or nullptr
  void* d_pre;             // like d_y; nullptr is legal without activation
  void* d_gate;            // [n] float32 (float64 for float64 y), or nullptr
  const int32_t* offsets;  // [segments + 1] in the target's memory; nullptr is legal without bias
  int n;                   // images
  int segments;
  int pixels, channels;
  ConvActivation activation;
  Dtype dtype;
};
// What both targets ask of what the host sees.
inline bool is_valid_epilogue_grad(const ConvEpilogueGrad& a) {
  return a.n >= 0 && a.segments >= 0 && a.pixels > 0 && a.channels > 0 && (a.offsets || !a.bias) &&
         (a.d_pre || a.n == 0 || a.activation == ConvActivation::none);
}
Status conv_epilogue_grad(Cpu, const ConvEpilogueGrad&);
Status conv_epilogue_grad(Cuda, const ConvEpilogueGrad&);

}  // namespace moat::kernels
