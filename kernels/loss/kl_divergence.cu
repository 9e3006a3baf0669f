#include "kernels/loss/kl_divergence.h"

#include "kernels/loss/row_softmax.cuh"

namespace moat::kernels {

namespace {

// Both rows are read once from memory and again from L1, gradients written once.

// Two rows of logits in float64: the difference of two near distributions keeps its digits.
template <class T, int Threads>
struct RowPair {
  using C = compute_t<T>;
  const RowThreads<Threads>& mine;
  const T *p, *q;
  int n;
  SharedRowSoftmax from = shared_row_softmax(mine, p, n), to = shared_row_softmax(mine, q, n);

  // P_i (log P_i - log Q_i - shift), 0 where P_i = 0.
  __device__ double term(int i, double shift) const {
    const double weight = from.probability(double{C(p[i])});
    if (weight == 0) return 0;
    return weight *
           (from.log_probability(double{C(p[i])}) - to.log_probability(double{C(q[i])}) - shift);
  }
  __device__ double divergence() const {
    double sum = 0;
    for (int i = mine.thread; i < n; i += Threads) sum += term(i, 0);
    sum = mine.reduce(sum, Sum());
    return sum < 0 ? 0 : sum;  // equal rows can round below zero
  }
};

template <class T, int Threads>
__global__ void __launch_bounds__(kRowBlock) kl_divergence_kernel(KlDivergence a) {
  const RowThreads<Threads> mine;
  if (mine.row >= a.rows) return;
  const int64_t at = mine.row * a.classes;
  const RowPair<T, Threads> pair{mine, static_cast<const T*>(a.p) + at,
                                 static_cast<const T*>(a.q) + at, a.classes};
  const double divergence = pair.divergence();
  if (mine.thread == 0)
    static_cast<T*>(a.values)[mine.row] = T(static_cast<compute_t<T>>(divergence));
}

template <class T, int Threads>
__global__ void __launch_bounds__(kRowBlock) kl_divergence_grad_kernel(KlDivergenceGrad a) {
  using C = compute_t<T>;
  const RowThreads<Threads> mine;
  if (mine.row >= a.rows) return;
  const int64_t at = mine.row * a.classes;
  const RowPair<T, Threads> pair{mine, static_cast<const T*>(a.p) + at,
                                 static_cast<const T*>(a.q) + at, a.classes};
  const double d = C(static_cast<const T*>(a.d_values)[mine.row]);
  const double divergence = a.d_p ? pair.divergence() : 0;
  for (int i = mine.thread; i < a.classes; i += Threads) {
    if (a.d_p) static_cast<T*>(a.d_p)[at + i] = T(static_cast<C>(d * pair.term(i, divergence)));
    if (a.d_q)
      static_cast<T*>(a.d_q)[at + i] =
          T(static_cast<C>(d * (pair.to.probability(double{C(pair.q[i])}) -
                                pair.from.probability(double{C(pair.p[i])}))));
  }
}

}  // namespace

Status kl_divergence(Cuda on, const KlDivergence& a) {
  if (a.rows < 0 || a.classes < 1) return Status::bad_args;
  return with_float(a.dtype, [&]<class T>() {
    return with_row_threads(a.classes, [&]<int Threads>() {
      return launch(on, row_grid<Threads>(a.rows), kl_divergence_kernel<T, Threads>, a);
    });
  });
}

Status kl_divergence_grad(Cuda on, const KlDivergenceGrad& a) {
  if (a.rows < 0 || a.classes < 1) return Status::bad_args;
  return with_float(a.dtype, [&]<class T>() {
    return with_row_threads(a.classes, [&]<int Threads>() {
      return launch(on, row_grid<Threads>(a.rows), kl_divergence_grad_kernel<T, Threads>, a);
    });
  });
}

}  // namespace moat::kernels
