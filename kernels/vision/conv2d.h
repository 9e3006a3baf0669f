#pragma once

#include "kernels/target.h"

namespace moat::kernels {

// A convolution apart from its batch. Activations are NHWC in `dtype`, filters KRSC
// [c_out, r, s, c_in] in float32 (float64 for float64 activations): bfloat16 activations meet
// float32 master weights, rounded when they are packed.
struct Conv2dGeometry {
  int height, width, c_in, c_out, r, s, stride, padding;
  Dtype dtype;

  constexpr int out_height() const { return (height + 2 * padding - r) / stride + 1; }
  constexpr int out_width() const { return (width + 2 * padding - s) / stride + 1; }
  constexpr int64_t x_size() const { return int64_t{height} * width * c_in; }  // of one image
  constexpr int64_t y_size() const { return int64_t{out_height()} * out_width() * c_out; }
  constexpr int64_t filter_size() const { return int64_t{c_out} * r * s * c_in; }
  constexpr Dtype filter_dtype() const { return dtype == Dtype::f64 ? Dtype::f64 : Dtype::f32; }
  friend bool operator==(const Conv2dGeometry&, const Conv2dGeometry&) = default;
};

enum class FilterUse { forward, input_grad };  // what a packed filter is for
enum class FilterForm { krsc, packed };
enum class ConvActivation {
  none,
  relu
};  // relu of NaN is NaN or 0: libraries' fused forms lose it

// Everything below treats each image alone: an image's result has the same bits in any batch.

// y[i,p,q,o] = activation(sum_{u,v,c} x[i, p·stride + u - padding, q·stride + v - padding, c]
//              · filter[o,u,v,c] + bias[o] + residual[i,p,q,o]), zeros outside x.
struct Conv2d {
  const void* x;         // [n, height, width, c_in]
  const void* filter;    // KRSC, or packed for FilterUse::forward
  const void* bias;      // [c_out] in filter_dtype() or nullptr
  const void* residual;  // like y or nullptr
  void* y;               // [n, h', w', c_out], apart from the others
  int n;
  Conv2dGeometry geometry;
  FilterForm form;
  ConvActivation activation;
};
size_t conv2d_workspace(Cpu, const Conv2d&);
size_t conv2d_workspace(Cuda, const Conv2d&);
Status conv2d(Cpu, const Conv2d&);
Status conv2d(Cuda, const Conv2d&);

// d_x of y = conv(x), given d_y. Two passes over d_x that often follow are part of it: the gradient
// that x has by another way is added, and the relu that x came from lets the sum through where x is
// above 0. Where x is NaN it may or may not: libraries' fused forms differ.
//   d_x = (conv^T(d_y) + added) where mask allows it, else 0
struct Conv2dInputGrad {
  const void* d_y;     // [n, h', w', c_out]
  const void* filter;  // KRSC, or packed for FilterUse::input_grad
  const void* added;   // like d_x or nullptr
  const void* mask;    // x, like d_x, or nullptr
  void* d_x;           // [n, height, width, c_in], apart from added and mask
  int n;
  Conv2dGeometry geometry;
  FilterForm form;
};
size_t conv2d_input_grad_workspace(Cpu, const Conv2dInputGrad&);
size_t conv2d_input_grad_workspace(Cuda, const Conv2dInputGrad&);
Status conv2d_input_grad(Cpu, const Conv2dInputGrad&);
Status conv2d_input_grad(Cuda, const Conv2dInputGrad&);

// d_filter of y = conv(x), summed over the images in a fixed order; zeros for n = 0.
struct Conv2dWeightGrad {
  const void* x;    // [n, height, width, c_in]
  const void* d_y;  // [n, h', w', c_out]
  void* d_filter;   // KRSC, filter_dtype()
  int n;
  Conv2dGeometry geometry;
};
size_t conv2d_weight_grad_workspace(Cpu, const Conv2dWeightGrad&);
size_t conv2d_weight_grad_workspace(Cuda, const Conv2dWeightGrad&);
Status conv2d_weight_grad(Cpu, const Conv2dWeightGrad&);
Status conv2d_weight_grad(Cuda, const Conv2dWeightGrad&);

// Constant weights in the library's layout, for many calls. float64 has no packed form: 0 bytes;
// 0 bytes also where the target does not support the geometry.
struct Conv2dPack {
  const void* filter;  // KRSC
  void* packed;        // conv2d_packed_bytes() bytes, 64-byte aligned
  Conv2dGeometry geometry;
  FilterUse use;
};
size_t conv2d_packed_bytes(Cpu, const Conv2dGeometry&, FilterUse);
size_t conv2d_packed_bytes(Cuda, const Conv2dGeometry&, FilterUse);
size_t conv2d_pack_workspace(Cpu, const Conv2dPack&);
size_t conv2d_pack_workspace(Cuda, const Conv2dPack&);
Status conv2d_pack(Cpu, const Conv2dPack&);
Status conv2d_pack(Cuda, const Conv2dPack&);

}  // namespace moat::kernels
