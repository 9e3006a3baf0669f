#include "kernels/loss/softmax.h"

#include <cmath>

#include "kernels/loss/row_softmax.h"
#include "kernels/parallel.h"

namespace moat::kernels {

Status softmax(Cpu, const Softmax& a) {
  if (a.rows < 0 || a.columns < 0) return Status::bad_args;
  if (a.columns == 0) return Status::ok;
  return with_float(a.dtype, [&]<class T>() {
    using C = compute_t<T>;
    parallel_for(a.rows, row_grain(a.columns), [&](int64_t from, int64_t to) {
      for (int64_t row = from; row < to; ++row) {
        const T* x = static_cast<const T*>(a.x) + row * a.columns;
        T* y = static_cast<T*>(a.y) + row * a.columns;
        const auto s = row_softmax<C>(x, a.columns);
        const C log_sum = static_cast<C>(std::log1p(s.rest)),
                scale = static_cast<C>(1 / (1 + s.rest));
        if (a.form == SoftmaxForm::softmax)
          for (int i = 0; i < a.columns; ++i) y[i] = T(std::exp(C(x[i]) - s.max) * scale);
        else
          for (int i = 0; i < a.columns; ++i) y[i] = T((C(x[i]) - s.max) - log_sum);
      }
    });
    return Status::ok;
  });
}

Status softmax_grad(Cpu, const SoftmaxGrad& a) {
  if (a.rows < 0 || a.columns < 0) return Status::bad_args;
  return with_float(a.dtype, [&]<class T>() {
    using C = compute_t<T>;
    parallel_for(a.rows, row_grain(a.columns), [&](int64_t from, int64_t to) {
      for (int64_t row = from; row < to; ++row) {
        const T* y = static_cast<const T*>(a.y) + row * a.columns;
        const T* d_y = static_cast<const T*>(a.d_y) + row * a.columns;
        T* d_x = static_cast<T*>(a.d_x) + row * a.columns;
        double sum = 0;
        if (a.form == SoftmaxForm::softmax) {
          for (int i = 0; i < a.columns; ++i) sum += double{C(y[i])} * C(d_y[i]);
          for (int i = 0; i < a.columns; ++i) d_x[i] = T(C(C(y[i]) * (C(d_y[i]) - sum)));
        } else {
          for (int i = 0; i < a.columns; ++i) sum += C(d_y[i]);
          for (int i = 0; i < a.columns; ++i) d_x[i] = T(C(C(d_y[i]) - std::exp(C(y[i])) * sum));
        }
      }
    });
    return Status::ok;
  });
}

}  // namespace moat::kernels
