#include "kernels/experts/expert_activation.h"

#include <algorithm>

#include "kernels/experts/activation_functions.h"
#include "kernels/parallel.h"

namespace moat::kernels {

namespace {

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
