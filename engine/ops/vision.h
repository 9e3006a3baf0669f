#pragma once

#include "engine/ops/activation.h"
#include "engine/tensor.h"

namespace moat::engine {

struct Conv2dOptions {
  int stride = 1;
  int padding = 0;
};

// x [n, h, w, c_in], filter [c_out, r, s, c_in] -> [n, h', w', c_out] with
// h' = (h + 2 padding - r) / stride + 1. No bias: batch norm follows, or conv2d_packed folds one
// in. x is float64, float32 or bfloat16; the filter is float32 for a bfloat16 x (master weights)
// and its gradient is float32.
Tensor conv2d(const Tensor& x, const Tensor& filter, const Conv2dOptions& options = {});

// A filter prepared for repeated evaluation: constant weights in the library's own layouts, a bias
// (batch norm folded in), and the shapes they were packed for.
struct PackedConv2d {
  Tensor filter;      // [experts · c_out, r, s, c_in], what was packed (float64 uses it directly)
  Tensor forward;     // packed bytes, [experts, …]
  Tensor input_grad;  // packed bytes, [experts, …]
  Tensor bias;        // [experts · c_out]
  int experts = 1;
  Conv2dOptions options;
  int height = 0, width = 0;  // of the input
  Dtype dtype = Dtype::f32;   // of the activations
};
// filter and bias: float32 (float64 for dtype f64), finite: conv2d_packed's relu maps NaN to 0.
// On a CPU that is checked here, on a GPU it is up to the caller.
PackedConv2d pack_conv2d(const Tensor& filter, const Tensor& bias, const Conv2dOptions& options,
                         int height, int width, Dtype dtype, int experts = 1);

// activation(conv(x) + bias + residual); residual [n, h', w', c_out] or undefined. Differentiable
// with respect to x and residual only: the weights are constants here.
Tensor conv2d_packed(const Tensor& x, const PackedConv2d& packed, const Tensor& residual,
                     Activation activation);

// x floating [n, h, w, c] -> [n, h', w', c] with h' = (h + 2 padding - window) / stride + 1.
// Throws unless the padded image holds the window and padding, which never wins, is at most half.
Tensor max_pool2d(const Tensor& x, int window, int stride, int padding);  // first maximum at a tie
Tensor avg_pool2d(const Tensor& x, int window, int stride);
Tensor global_avg_pool(const Tensor& x);  // [n, h, w, c] -> [n, c]

// Option-A shortcut of He et al. 2016, section 4.2: every stride-th pixel, zero channels around:
// floor((c_out - c) / 2) in front. [n, h, w, c] -> [n, ceil(h / stride), ceil(w / stride), c_out].
Tensor subsample_pad(const Tensor& x, int stride, int c_out);

}  // namespace moat::engine
