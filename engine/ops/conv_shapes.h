#pragma once

// What conv2d and grouped_conv2d share: checks of shapes, and the gradient of the gate.

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

// The gradient of the gate [n] in y = activation(convolution · gate + bias + residual), d_pre being
// that of what the activation sees; see conv_gate_grad.h. bias: [segments, c_out] or undefined.
// offsets: int32 [segments + 1], the images of each; undefined when there is no bias.
Tensor conv_gate_grad(const Tensor& d_pre, const Tensor& y, const Tensor& residual,
                      const Tensor& bias, const Tensor& offsets);

}  // namespace moat::engine
