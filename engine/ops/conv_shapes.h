#pragma once

// What conv2d and grouped_conv2d share: checks of shapes, and the backward of the epilogue.

#include "engine/ops/vision.h"
#include "kernels/vision/conv2d.h"

namespace moat::engine {

// The geometry of one expert's convolution of x [n, h, w, c_in] with a bank of `experts` filters
// [experts · c_out, r, s, c_in]; throws in the name of `op` when they do not fit.
kernels::Conv2dGeometry conv_geometry(const char* op, const Tensor& x, const Tensor& filter,
                                      const Conv2dOptions& options, int experts);
kernels::Conv2dGeometry packed_geometry(const char* op, const Tensor& x,
                                        const PackedConv2d& packed);
Shape conv_output_shape(int64_t n, const kernels::Conv2dGeometry& geometry);
void require_residual(const char* op, const Tensor& residual, const Shape& shape, Dtype dtype);

// Which of its forms a packed filter is read in: float64 reads KRSC.
kernels::FilterForm packed_form(const PackedConv2d& packed);
const Tensor& packed_filter(const PackedConv2d& packed, kernels::FilterUse use);

kernels::ConvActivation conv_activation(Activation activation);
Tensor contiguous_or_undefined(const Tensor& x);

// Backward of y = activation(convolution · gate + bias + residual), see conv_epilogue_grad.h.
struct EpilogueGrad {
  Tensor d_pre;   // d_y itself when there is no activation
  Tensor d_gate;  // undefined unless wanted
};
// bias: [segments, c_out] or undefined. offsets: int32 [segments + 1], the images of each;
// undefined when there is no bias.
enum class GateGrad { skipped, wanted };
EpilogueGrad epilogue_grad(const Tensor& d_y, const Tensor& y, const Tensor& residual,
                           const Tensor& bias, const Tensor& offsets, Activation activation,
                           GateGrad gate);

}  // namespace moat::engine
