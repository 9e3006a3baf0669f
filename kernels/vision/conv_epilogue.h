#pragma once

#include "kernels/vision/conv2d.h"

namespace moat::kernels {

// y[i] = activation(y[i] + bias[i mod channels] + residual[i]), and 0 where mask[i] <= 0, in place,
// channels last: what follows a convolution or its input gradient whose library does not fuse it.
// Sums in the activations' compute type.
struct ConvEpilogue {
  const void* bias;      // [channels] in y's compute type (float32 for bfloat16) or nullptr
  const void* residual;  // like y or nullptr
  const void* mask;      // likewise
  void* y;               // [pixels, channels]
  int64_t pixels;
  int channels;
  ConvActivation activation;
  Dtype dtype;
};
Status conv_epilogue(Cuda, const ConvEpilogue&);

}  // namespace moat::kernels
