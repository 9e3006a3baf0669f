#pragma once

#include "engine/tensor.h"

namespace moat::engine {

// Differentiable changes of shape and selections.

// The same values in the same order; one extent may be -1. Throws when the counts differ.
Tensor reshape(const Tensor& x, const Shape& shape);
// Axis i of the contiguous result is axis axes[i] of x. Throws unless axes is a permutation.
Tensor permute(const Tensor& x, const Shape& axes);
// Places [from, to) of an axis (negative axes count from the back): a view of x's bytes. Throws
// unless 0 <= from <= to <= x.dim(axis).
Tensor slice(const Tensor& x, int axis, int64_t from, int64_t to);
// The parts side by side, whose lengths along the axis add up. Throws without a part, and unless
// dtype, device and all other axes agree.
Tensor concat(const Tensors& parts, int axis);

// y[i, …] = x[index[i], …]; index int32 [rows], each within [0, x.dim(0)). The gradient adds the
// rows that share a source in ascending order of i.
Tensor gather_rows(const Tensor& x, const Tensor& index);

// NCHW (PyTorch's order, as in files) <-> NHWC (the engine's); not differentiable.
Tensor nhwc_from_nchw(const Tensor& x);
Tensor nchw_from_nhwc(const Tensor& x);

}  // namespace moat::engine
