#include "kernels/loss/cross_entropy.h"

#include "kernels/loss/row_softmax.cuh"

namespace moat::kernels {

namespace {

// Three passes over a row, the later ones from L1: logits are read once from memory, values and
// gradients written once.

template <class T, int Threads>
__global__ void __launch_bounds__(kRowBlock) cross_entropy_kernel(CrossEntropy a) {
  using C = compute_t<T>;
  const RowThreads<Threads> mine;
  if (mine.row >= a.rows) return;
  const T* z = static_cast<const T*>(a.logits) + mine.row * a.classes;
  const SharedRowSoftmax s = shared_row_softmax(mine, z, a.classes);
  if (mine.thread > 0) return;
  const int label = a.labels[mine.row];
  const double value =
      label >= 0 && label < a.classes ? -s.log_probability(double{C(z[label])}) : double(NAN);
  static_cast<T*>(a.values)[mine.row] = T(static_cast<C>(value));
}

template <class T, int Threads>
__global__ void __launch_bounds__(kRowBlock) cross_entropy_grad_kernel(CrossEntropyGrad a) {
  using C = compute_t<T>;
  const RowThreads<Threads> mine;
  if (mine.row >= a.rows) return;
  const T* z = static_cast<const T*>(a.logits) + mine.row * a.classes;
  T* d_z = static_cast<T*>(a.d_logits) + mine.row * a.classes;
  const SharedRowSoftmax s = shared_row_softmax(mine, z, a.classes);
  const int label = a.labels[mine.row];
  const bool is_label = label >= 0 && label < a.classes;
  const double d = is_label ? double{C(static_cast<const T*>(a.d_values)[mine.row])} : double(NAN);
  for (int i = mine.thread; i < a.classes; i += Threads) {
    const double x = C(z[i]);
    d_z[i] = T(static_cast<C>(d * (i == label ? -s.others(x, i) : s.probability(x))));
  }
}

}  // namespace

Status cross_entropy(Cuda on, const CrossEntropy& a) {
  if (a.rows < 0 || a.classes < 0) return Status::bad_args;
  return with_float(a.dtype, [&]<class T>() {
    return with_row_threads(a.classes, [&]<int Threads>() {
      return launch(on, row_grid<Threads>(a.rows), cross_entropy_kernel<T, Threads>, a);
    });
  });
}

Status cross_entropy_grad(Cuda on, const CrossEntropyGrad& a) {
  if (a.rows < 0 || a.classes < 0) return Status::bad_args;
  return with_float(a.dtype, [&]<class T>() {
    return with_row_threads(a.classes, [&]<int Threads>() {
      return launch(on, row_grid<Threads>(a.rows), cross_entropy_grad_kernel<T, Threads>, a);
    });
  });
}

}  // namespace moat::kernels
