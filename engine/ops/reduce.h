#pragma once

#include "engine/tensor.h"

namespace moat::engine {

// Reductions over one axis (negative axes count from the back) or over everything. The axis is
// removed. Sums run in a fixed order in float32 or better, so two runs give the same bits. Of
// nothing the sum is 0 and the mean NaN; max and argmax throw for an axis without elements.

Tensor sum(const Tensor& x);  // rank 0
Tensor sum(const Tensor& x, int axis);
// In x's own format or, of a bfloat16 x, in float32.
Tensor sum(const Tensor& x, int axis, Dtype dtype);
Tensor mean(const Tensor& x);
Tensor mean(const Tensor& x, int axis);
Tensor max(const Tensor& x, int axis);  // gradient to the first maximum; NaN wins
Tensor argmax(const Tensor& x,
              int axis);  // int32; lowest index at a tie, first NaN if there is one
// Sums a gradient over the axes along which an operand of shape `shape` was broadcast.
Tensor sum_to(const Tensor& x, const Shape& shape);

}  // namespace moat::engine
