#pragma once

#include "engine/tensor.h"

namespace moat::engine {

// Differentiable maps over elements; two-operand forms broadcast like NumPy. All tensors of a call
// share one dtype and one device.

Tensor add(const Tensor& a, const Tensor& b);
Tensor sub(const Tensor& a, const Tensor& b);
Tensor mul(const Tensor& a, const Tensor& b);
Tensor div(const Tensor& a, const Tensor& b);
Tensor maximum(const Tensor& a, const Tensor& b);  // at a tie the gradient goes to `a`

Tensor affine(const Tensor& x, double scale, double shift);  // scale * x + shift
inline Tensor scale(const Tensor& x, double factor) { return affine(x, factor, 0); }

Tensor relu(const Tensor& x);  // gradient 0 at 0; NaN passes through
// The gradient of a relu whose result is y: d_y, and 0 where y is <= 0. Not differentiable.
Tensor behind_relu(const Tensor& d_y, const Tensor& y);
Tensor exp(const Tensor& x);
Tensor log(const Tensor& x);
Tensor sqrt(const Tensor& x);
Tensor square(const Tensor& x);
Tensor abs(const Tensor& x);   // gradient 0 at 0
Tensor sign(const Tensor& x);  // gradient 0 everywhere
Tensor tanh(const Tensor& x);
Tensor clamp(const Tensor& x, double low, double high);  // gradient 1 inside and on the bounds

// Another number format; the gradient is cast back.
Tensor cast(const Tensor& x, Dtype dtype);

}  // namespace moat::engine
