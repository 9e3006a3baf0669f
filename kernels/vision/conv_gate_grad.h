#pragma once

#include <cstdint>

#include "kernels/target.h"

namespace moat::kernels {

// Of y = activation(conv(x) · gate + bias + residual), where gate is one value per image, taken to
// be 1, the gradient of the gate:
//   d_gate = <d_pre, y - bias - residual>   per image, d_pre being 0 where a relu gave y = 0;
// without bias and residual this is the straight-through <d_y, y>. The dot product runs in a fixed
// order in float32 or better, and for each image alone.
//
// Images offsets[s] .. offsets[s + 1] have row s of `bias`. Offsets start at 0, never fall and end
// at n; on CUDA, where they are not looked at before a launch, an image outside of every segment
// has no bias.
struct ConvGateGrad {
  const void* d_pre;       // [n, pixels, channels]: what the activation sees
  const void* y;           // like d_pre
  const void* residual;    // like d_pre or nullptr
  const void* bias;        // [segments, channels], float32 (float64 for float64 y), or nullptr
  void* d_gate;            // [n] float32 (float64 for float64 y)
  const int32_t* offsets;  // [segments + 1] in the target's memory; nullptr is legal without bias
  int n;                   // images
  int segments;
  int pixels, channels;
  Dtype dtype;
};
// What both targets ask of what the host sees.
inline bool is_valid(const ConvGateGrad& a) {
  return a.n >= 0 && a.segments >= 0 && a.pixels > 0 && a.channels > 0 && (a.offsets || !a.bias);
}
Status conv_gate_grad(Cpu, const ConvGateGrad&);
Status conv_gate_grad(Cuda, const ConvGateGrad&);

}  // namespace moat::kernels
