#include "kernels/loss/margin.h"

#include <algorithm>
#include <cmath>

#include "kernels/index_range.h"
#include "kernels/loss/row_softmax.h"
#include "kernels/parallel.h"

namespace moat::kernels {

namespace {

// Index of the first largest logit (or the first NaN) other than the label's.
template <class T>
int runner_up(const T* z, int classes, int label) {
  using C = compute_t<T>;
  int best = label == 0 ? 1 : 0;
  for (int i = best + 1; i < classes; ++i)
    if (i != label && !std::isnan(C(z[best])) && !(C(z[i]) <= C(z[best]))) best = i;
  return best;
}

template <class Args>
bool is_valid(const Args& a) {
  return a.rows >= 0 && (a.rows == 0 || a.classes >= 2) &&
         indices_in_range(a.labels, a.rows, a.classes);
}

}  // namespace

Status margin(Cpu, const Margin& a) {
  if (!is_valid(a)) return Status::bad_args;
  return with_float(a.dtype, [&]<class T>() {
    using C = compute_t<T>;
    parallel_for(a.rows, row_grain(a.classes), [&](int64_t from, int64_t to) {
      for (int64_t row = from; row < to; ++row) {
        const T* z = static_cast<const T*>(a.logits) + row * a.classes;
        const int label = a.labels[row];
        static_cast<T*>(a.values)[row] = T(C(z[runner_up(z, a.classes, label)]) - C(z[label]));
      }
    });
    return Status::ok;
  });
}

Status margin_grad(Cpu, const MarginGrad& a) {
  if (!is_valid(a)) return Status::bad_args;
  return with_float(a.dtype, [&]<class T>() {
    using C = compute_t<T>;
    parallel_for(a.rows, row_grain(a.classes), [&](int64_t from, int64_t to) {
      for (int64_t row = from; row < to; ++row) {
        const T* z = static_cast<const T*>(a.logits) + row * a.classes;
        T* d_z = static_cast<T*>(a.d_logits) + row * a.classes;
        const T d = static_cast<const T*>(a.d_values)[row];
        const int label = a.labels[row];
        std::fill(d_z, d_z + a.classes, T(C{0}));
        d_z[runner_up(z, a.classes, label)] = d;
        d_z[label] = T(-C(d));
      }
    });
    return Status::ok;
  });
}

}  // namespace moat::kernels
