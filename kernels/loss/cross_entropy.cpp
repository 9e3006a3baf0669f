#include "kernels/loss/cross_entropy.h"

#include <cmath>

#include "kernels/index_range.h"
#include "kernels/loss/row_softmax.h"
#include "kernels/parallel.h"

namespace moat::kernels {

// Rows are short and few beside the network's work: exponentials run in float64.

Status cross_entropy(Cpu, const CrossEntropy& a) {
  if (a.rows < 0 || a.classes < 0) return Status::bad_args;
  if (!indices_in_range(a.labels, a.rows, a.classes)) return Status::bad_args;
  return with_float(a.dtype, [&]<class T>() {
    parallel_for(a.rows, row_grain(a.classes), [&](int64_t from, int64_t to) {
      for (int64_t row = from; row < to; ++row) {
        const T* z = static_cast<const T*>(a.logits) + row * a.classes;
        const auto s = row_softmax<double>(z, a.classes);
        static_cast<T*>(a.values)[row] =
            T(static_cast<compute_t<T>>(-s.log_probability(z[a.labels[row]])));
      }
    });
    return Status::ok;
  });
}

Status cross_entropy_grad(Cpu, const CrossEntropyGrad& a) {
  if (a.rows < 0 || a.classes < 0) return Status::bad_args;
  if (!indices_in_range(a.labels, a.rows, a.classes)) return Status::bad_args;
  return with_float(a.dtype, [&]<class T>() {
    using C = compute_t<T>;
    parallel_for(a.rows, row_grain(a.classes), [&](int64_t from, int64_t to) {
      for (int64_t row = from; row < to; ++row) {
        const T* z = static_cast<const T*>(a.logits) + row * a.classes;
        T* d_z = static_cast<T*>(a.d_logits) + row * a.classes;
        const double d = C(static_cast<const T*>(a.d_values)[row]);
        const int label = a.labels[row];
        const auto s = row_softmax<double>(z, a.classes);
        for (int i = 0; i < a.classes; ++i) {
          const double slope = i == label ? -s.others(z[i], i) : s.probability(z[i]);
          d_z[i] = T(static_cast<C>(d * slope));
        }
      }
    });
    return Status::ok;
  });
}

}  // namespace moat::kernels
