#include "kernels/loss/kl_divergence.h"

#include <cmath>

#include "kernels/loss/row_softmax.h"
#include "kernels/parallel.h"

namespace moat::kernels {

namespace {

// Two rows of logits in float64: the difference of two near distributions keeps its digits.
template <class T>
struct RowPair {
  const T *p, *q;
  int n;
  RowSoftmax<double> from = row_softmax<double>(p, n), to = row_softmax<double>(q, n);

  // P_i (log P_i - log Q_i - shift), 0 where P_i = 0.
  double term(int i, double shift) const {
    const double weight = from.probability(p[i]);
    if (weight == 0) return 0;
    return weight * (from.log_probability(p[i]) - to.log_probability(q[i]) - shift);
  }
  double divergence() const {
    double sum = 0;
    for (int i = 0; i < n; ++i) sum += term(i, 0);
    return sum < 0 ? 0 : sum;  // equal rows can round below zero
  }
};

}  // namespace

Status kl_divergence(Cpu, const KlDivergence& a) {
  if (a.rows < 0 || a.classes < 1) return Status::bad_args;
  return with_float(a.dtype, [&]<class T>() {
    parallel_for(a.rows, row_grain(a.classes), [&](int64_t from, int64_t to) {
      for (int64_t row = from; row < to; ++row) {
        const int64_t at = row * a.classes;
        const RowPair<T> pair{static_cast<const T*>(a.p) + at, static_cast<const T*>(a.q) + at,
                              a.classes};
        static_cast<T*>(a.values)[row] = T(static_cast<compute_t<T>>(pair.divergence()));
      }
    });
    return Status::ok;
  });
}

Status kl_divergence_grad(Cpu, const KlDivergenceGrad& a) {
  if (a.rows < 0 || a.classes < 1) return Status::bad_args;
  return with_float(a.dtype, [&]<class T>() {
    using C = compute_t<T>;
    parallel_for(a.rows, row_grain(a.classes), [&](int64_t from, int64_t to) {
      for (int64_t row = from; row < to; ++row) {
        const int64_t at = row * a.classes;
        const RowPair<T> pair{static_cast<const T*>(a.p) + at, static_cast<const T*>(a.q) + at,
                              a.classes};
        const double d = C(static_cast<const T*>(a.d_values)[row]);
        if (a.d_p) {
          T* d_p = static_cast<T*>(a.d_p) + at;
          const double divergence = pair.divergence();
          for (int i = 0; i < a.classes; ++i)
            d_p[i] = T(static_cast<C>(d * pair.term(i, divergence)));
        }
        if (a.d_q) {
          T* d_q = static_cast<T*>(a.d_q) + at;
          for (int i = 0; i < a.classes; ++i)
            d_q[i] = T(static_cast<C>(
                d * (pair.to.probability(pair.q[i]) - pair.from.probability(pair.p[i]))));
        }
      }
    });
    return Status::ok;
  });
}

}  // namespace moat::kernels
