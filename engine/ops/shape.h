#pragma once

#include "engine/tensor.h"

namespace moat::engine {

// Differentiable changes of shape and selections.

Tensor reshape(const Tensor& x, const Shape& shape);  // one extent may be -1
Tensor permute(const Tensor& x, const Shape& axes);   // contiguous result
Tensor slice(const Tensor& x, int axis, int64_t from, int64_t to);
Tensor concat(const Tensors& parts, int axis);

// y[i, …] = x[index[i], …]; index int32 [rows], each within [0, x.dim(0)). The gradient adds the
// rows that share a source in ascending order of i.
Tensor gather_rows(const Tensor& x, const Tensor& index);

// NCHW (PyTorch's order, as in files) <-> NHWC (the engine's); not differentiable.
Tensor nhwc_from_nchw(const Tensor& x);
Tensor nchw_from_nhwc(const Tensor& x);

}  // namespace moat::engine
