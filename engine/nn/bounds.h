#pragma once

#include "engine/nn/layers.h"

namespace moat::engine {

// What a tensor's elements can be over a set of inputs, a box around an image or all images: low <=
// value <= high (interval bound propagation, Gowal et al. 2018, section 3). In float64 on the CPU,
// every step rounded outwards, so that the bounds hold for a network in exact arithmetic.
struct Bounds {
  Tensor low, high;
  // Of two inputs of the set, the value differs by at most `slope` times their L∞ distance: a
  // Lipschitz constant of each element on the set, at most the product of the layers' norms
  // ‖W‖∞. Undefined where it was not asked for.
  Tensor slope = {};
  // Affine forms (zonotopes with one error per element; DeepZ, Singh et al. 2018): the value at a
  // point is (low + high) / 2 + Σ_p pixels_p e_p + rest with e_p in [-1, 1] saying where pixel p
  // is, |rest| <= (high - low) / 2 - Σ_p |pixels_p|. Rows i · d .. (i + 1) · d belong to box i, [n
  // · d, …]. What depends on one pixel in two ways cancels as it does in the net, which intervals
  // forget. Undefined where it was not asked for: a pass costs as much as one of n · d images.
  Tensor pixels = {};

  bool defined() const { return low.defined(); }
  int64_t dim(int axis) const { return low.dim(axis); }
};

Bounds add(const Bounds& a, const Bounds& b);
// scale · x + shift along the last axis; both [channels], float64.
Bounds affine(const Bounds& x, const Tensor& scale, const Tensor& shift);
// Where an element is at most 0 on the whole set its slope ends.
Bounds relu(const Bounds& x);
Bounds conv2d(const Bounds& x, const Tensor& filter, const Conv2dOptions& options);
// x [n, in], weight [out, in], bias [out] or undefined; any floating dtype.
Bounds linear(const Bounds& x, const Tensor& weight, const Tensor& bias);
// y_a - y_b of y = linear(x, weight, bias) for every a and b, [n, out, out], each bounded as one
// linear map, which is what makes it tighter than the difference of two bounds.
struct Differences : Bounds {
  // Σ |weight| |x| + |bias|, its largest on each box over all y, [n]: what the roundoff of y is
  // relative to, however little they differ.
  Tensor terms = {};
};
Differences linear_differences(const Bounds& x, const Tensor& weight, const Tensor& bias);

Bounds max_pool2d(const Bounds& x, int window, int stride, int padding);
Bounds avg_pool2d(const Bounds& x, int window, int stride);
Bounds global_avg_pool(const Bounds& x);
Bounds subsample_pad(const Bounds& x, int stride, int c_out);
Bounds concat(const Bounds& a, const Bounds& b, int axis);
Bounds permute(const Bounds& x, const Shape& axes);
Bounds reshape(const Bounds& x, const Shape& shape);
Bounds gather_rows(const Bounds& x, const Tensor& index);

// Layers as they are in evaluation; of a bank of filters that of one expert.
Bounds bounds(const BatchNorm& norm, const Bounds& x, Activation activation);
Bounds bounds(const Linear& linear, const Bounds& x);
Bounds bounds(const ConvLayer& layer, const Bounds& x, int expert, const Bounds& residual,
              Activation activation);

}  // namespace moat::engine
