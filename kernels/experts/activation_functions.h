#pragma once

#include <cmath>
#include <numbers>

#include "kernels/basic/exponential.h"
#include "kernels/basic/normal_cdf.h"
#include "kernels/experts/expert_activation.h"

namespace moat::kernels {

// value(x) and slope(x) of each activation, in the compute type, on both targets.
template <class C>
struct Identity {
  static constexpr C value(C x) { return x; }
  static constexpr C slope(C) { return C(1); }
};

template <class C>
struct Relu {
  static constexpr C value(C x) { return x < 0 ? C(0) : x; }
  static constexpr C slope(C x) { return x > 0 ? C(1) : C(0) * x; }  // NaN stays NaN
};

template <class C>
struct Gelu {
  static constexpr C value(C x) { return x * normal_at(x).cdf; }
  static constexpr C slope(C x) {
    const Normal<C> at_x = normal_at(x);
    return at_x.cdf + x * at_x.density;
  }
};

template <class C>
struct GeluTanh {
  // sqrt(2/pi) and the cubic coefficient of the approximation.
  static constexpr C kScale = std::numbers::sqrt2_v<C> * std::numbers::inv_sqrtpi_v<C>;
  static constexpr C kCubic = C(0.044715);
  static constexpr C tanh_of(C x) { return std::tanh(kScale * (x + kCubic * x * x * x)); }
  static constexpr C value(C x) { return C(0.5) * x * (1 + tanh_of(x)); }
  static constexpr C slope(C x) {
    const C t = tanh_of(x);
    return C(0.5) * (1 + t) + C(0.5) * x * (1 - t * t) * kScale * (1 + 3 * kCubic * x * x);
  }
};

template <class C>
struct Silu {
  static constexpr C sigmoid(C x) {
    const C e = exp_not_positive(x < 0 ? x : -x);
    return (x < 0 ? e : C(1)) / (1 + e);
  }
  static constexpr C value(C x) { return x * sigmoid(x); }
  static constexpr C slope(C x) { return sigmoid(x) * (1 + x * (1 - sigmoid(x))); }
};

// Calls f.operator()<Function>() for the ones that take a column at a time: all but swiglu.
template <class C, class F>
constexpr void with_function(ExpertActivation activation, F&& f) {
  switch (activation) {
    case ExpertActivation::relu:
      return f.template operator()<Relu<C>>();
    case ExpertActivation::gelu:
      return f.template operator()<Gelu<C>>();
    case ExpertActivation::gelu_tanh:
      return f.template operator()<GeluTanh<C>>();
    default:
      return f.template operator()<Identity<C>>();
  }
}

}  // namespace moat::kernels
