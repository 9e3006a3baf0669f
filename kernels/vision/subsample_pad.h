#pragma once

#include "kernels/target.h"

namespace moat::kernels {

// y[i, p, q, front + c] = x[i, p·stride, q·stride, c], zeros in the other channels: the option-A
// shortcut of He et al. 2016, section 4.2.
struct SubsamplePad {
  const void* x;  // [n, height, width, channels]
  void* y;        // [n, ceil(height / stride), ceil(width / stride), out_channels]
  int n, height, width, channels, out_channels, stride;
  int front;  // zero channels before, front + channels <= out_channels
  Dtype dtype;
};
Status subsample_pad(Cpu, const SubsamplePad&);
Status subsample_pad(Cuda, const SubsamplePad&);

struct SubsamplePadGrad {
  const void* d_y;  // like y
  void* d_x;        // like x; zeros where y looked away
  int n, height, width, channels, out_channels, stride, front;
  Dtype dtype;
};
Status subsample_pad_grad(Cpu, const SubsamplePadGrad&);
Status subsample_pad_grad(Cuda, const SubsamplePadGrad&);

}  // namespace moat::kernels
