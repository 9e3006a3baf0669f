#include "kernels/expert_activation.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "kernels/parallel.h"

namespace moat::kernels {

namespace {

// value(x) and slope(x) of each activation, in the compute type.
template <class C>
struct Relu {
  static C value(C x) { return x < 0 ? C(0) : x; }
  static C slope(C x) { return x > 0 ? C(1) : C(0) * x; }  // NaN stays NaN
};

template <class C>
struct Identity {
  static C value(C x) { return x; }
  static C slope(C) { return C(1); }
};

template <class C>
struct Gelu {
  static C normal_cdf(C x) { return C(0.5) * std::erfc(-x / std::numbers::sqrt2_v<C>); }
  static C value(C x) { return x * normal_cdf(x); }
  static C slope(C x) {
    const C density =
        std::exp(-x * x / 2) * std::numbers::inv_sqrtpi_v<C> / std::numbers::sqrt2_v<C>;
    return normal_cdf(x) + x * density;
  }
};

template <class C>
struct GeluTanh {
  // sqrt(2/pi) and the cubic coefficient of the approximation.
  static constexpr C kScale = std::numbers::sqrt2_v<C> * std::numbers::inv_sqrtpi_v<C>;
  static constexpr C kCubic = C(0.044715);
  static C tanh_of(C x) { return std::tanh(kScale * (x + kCubic * x * x * x)); }
  static C value(C x) { return C(0.5) * x * (1 + tanh_of(x)); }
  static C slope(C x) {
    const C t = tanh_of(x);
    return C(0.5) * (1 + t) + C(0.5) * x * (1 - t * t) * kScale * (1 + 3 * kCubic * x * x);
  }
};

template <class C>
struct Silu {
  static C sigmoid(C x) { return 1 / (1 + std::exp(-x)); }
  static C value(C x) { return x * sigmoid(x); }
  static C slope(C x) { return sigmoid(x) * (1 + x * (1 - sigmoid(x))); }
};

template <class Args>
bool is_valid(const Args& a) {
  return a.rows >= 0 && a.width >= 0 &&
         (a.activation != ExpertActivation::swiglu || a.width % 2 == 0);
}

template <class Body>
void for_each_row(int rows, int width, Body&& body) {
  constexpr int64_t kGrain = 8192;  // elements a thread handles at least
  parallel_for(rows, std::max<int64_t>(1, kGrain / std::max(1, width)),
               [&](int64_t from, int64_t to) {
                 for (int64_t r = from; r < to; ++r) body(r);
               });
}

// Calls f.operator()<Function>() for the elementwise ones.
template <class C, class F>
void with_function(ExpertActivation activation, F&& f) {
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

template <class T>
void gated_row(const ApplyExpertActivation& a, int64_t r) {
  using C = compute_t<T>;
  const int half = a.width / 2;
  const T *gate = static_cast<const T*>(a.pre) + r * a.width, *value = gate + half;
  T* y = static_cast<T*>(a.y) + r * half;
  for (int j = 0; j < half; ++j)
    y[j] = T(Silu<C>::value(static_cast<C>(gate[j])) * static_cast<C>(value[j]));
}

template <class T>
void gated_grad_row(const ExpertActivationGrad& a, int64_t r) {
  using C = compute_t<T>;
  const int half = a.width / 2;
  const T *gate = static_cast<const T*>(a.pre) + r * a.width, *value = gate + half;
  const T* d_y = static_cast<const T*>(a.d_y) + r * half;
  T* d_gate = static_cast<T*>(a.d_pre) + r * a.width;
  for (int j = 0; j < half; ++j) {
    const C g = static_cast<C>(gate[j]), d = static_cast<C>(d_y[j]);
    d_gate[j] = T(d * static_cast<C>(value[j]) * Silu<C>::slope(g));
    d_gate[half + j] = T(d * Silu<C>::value(g));
  }
}

}  // namespace

Status expert_activation(Cpu, const ApplyExpertActivation& a) {
  if (!is_valid(a)) return Status::bad_args;
  return with_float(a.dtype, [&]<class T>() {
    using C = compute_t<T>;
    if (a.activation == ExpertActivation::swiglu) {
      for_each_row(a.rows, a.width, [&](int64_t r) { gated_row<T>(a, r); });
      return Status::ok;
    }
    with_function<C>(a.activation, [&]<class Function>() {
      for_each_row(a.rows, a.width, [&](int64_t r) {
        const T* pre = static_cast<const T*>(a.pre) + r * a.width;
        T* y = static_cast<T*>(a.y) + r * a.width;
        for (int j = 0; j < a.width; ++j) y[j] = T(Function::value(static_cast<C>(pre[j])));
      });
    });
    return Status::ok;
  });
}

Status expert_activation_grad(Cpu, const ExpertActivationGrad& a) {
  if (!is_valid(a)) return Status::bad_args;
  return with_float(a.dtype, [&]<class T>() {
    using C = compute_t<T>;
    if (a.activation == ExpertActivation::swiglu) {
      for_each_row(a.rows, a.width, [&](int64_t r) { gated_grad_row<T>(a, r); });
      return Status::ok;
    }
    with_function<C>(a.activation, [&]<class Function>() {
      for_each_row(a.rows, a.width, [&](int64_t r) {
        const T* pre = static_cast<const T*>(a.pre) + r * a.width;
        const T* d_y = static_cast<const T*>(a.d_y) + r * a.width;
        T* d_pre = static_cast<T*>(a.d_pre) + r * a.width;
        for (int j = 0; j < a.width; ++j)
          d_pre[j] = T(static_cast<C>(d_y[j]) * Function::slope(static_cast<C>(pre[j])));
      });
    });
    return Status::ok;
  });
}

}  // namespace moat::kernels
