#pragma once

#include <cstdint>

#include "kernels/vision/conv2d.h"

namespace moat::kernels {

// A gradient behind the relu that gave x: 0 where x is not positive, but for NaN.
template <class C>
constexpr C behind_relu(C gradient, C x) {
  return x <= 0 ? C(0) : gradient;
}

// Adds and masks `count` values of d_x from `first` on, which a library wrote without.
template <class T>
void finish_input_grad(const Conv2dInputGrad& a, int64_t first, int64_t count) {
  using C = compute_t<T>;
  T* d_x = static_cast<T*>(a.d_x) + first;
  const T* added = a.added ? static_cast<const T*>(a.added) + first : nullptr;
  const T* mask = a.mask ? static_cast<const T*>(a.mask) + first : nullptr;
  if (added && mask)
    for (int64_t i = 0; i < count; ++i)
      d_x[i] = T(behind_relu(C(d_x[i]) + C(added[i]), C(mask[i])));
  else if (added)
    for (int64_t i = 0; i < count; ++i) d_x[i] = T(C(d_x[i]) + C(added[i]));
  else if (mask)
    for (int64_t i = 0; i < count; ++i) d_x[i] = T(behind_relu(C(d_x[i]), C(mask[i])));
}

}  // namespace moat::kernels
