#include "kernels/loss/margin.h"

#include "kernels/loss/row_softmax.cuh"

namespace moat::kernels {

namespace {

// Logits are read once from memory and again from L1, gradients written once.

// Index of the first NaN other than the label's, or else of the first largest logit.
template <class T, int Threads>
__device__ int runner_up(const RowThreads<Threads>& mine, const T* z, int classes, int label) {
  using C = compute_t<T>;
  int wild = classes;
  C best = -INFINITY;
  for (int i = mine.thread; i < classes; i += Threads) {
    if (i == label) continue;
    const C x = z[i];
    if (x != x)
      wild = i < wild ? i : wild;
    else if (x > best)
      best = x;
  }
  wild = mine.reduce(wild, Smallest());
  best = mine.reduce(best, Largest());
  if (wild < classes) return wild;
  int first = classes;
  for (int i = mine.thread; i < classes && first == classes; i += Threads)
    if (i != label && C(z[i]) == best) first = i;
  return mine.reduce(first, Smallest());
}

template <class T, int Threads>
__global__ void __launch_bounds__(kRowBlock) margin_kernel(Margin a) {
  using C = compute_t<T>;
  const RowThreads<Threads> mine;
  if (mine.row >= a.rows) return;
  const T* z = static_cast<const T*>(a.logits) + mine.row * a.classes;
  const int label = a.labels[mine.row], other = runner_up(mine, z, a.classes, label);
  if (mine.thread > 0) return;
  const bool is_label = label >= 0 && label < a.classes;
  static_cast<T*>(a.values)[mine.row] = is_label ? T(C(z[other]) - C(z[label])) : T(C(NAN));
}

template <class T, int Threads>
__global__ void __launch_bounds__(kRowBlock) margin_grad_kernel(MarginGrad a) {
  using C = compute_t<T>;
  const RowThreads<Threads> mine;
  if (mine.row >= a.rows) return;
  const T* z = static_cast<const T*>(a.logits) + mine.row * a.classes;
  T* d_z = static_cast<T*>(a.d_logits) + mine.row * a.classes;
  const C d = C(static_cast<const T*>(a.d_values)[mine.row]);
  const int label = a.labels[mine.row], other = runner_up(mine, z, a.classes, label);
  const bool is_label = label >= 0 && label < a.classes;
  for (int i = mine.thread; i < a.classes; i += Threads)
    d_z[i] = T(!is_label ? C(NAN) : i == other ? d : i == label ? -d : C(0));
}

template <class Args>
bool is_valid(const Args& a) {
  return a.rows >= 0 && (a.rows == 0 || a.classes >= 2);
}

}  // namespace

Status margin(Cuda on, const Margin& a) {
  if (!is_valid(a)) return Status::bad_args;
  return with_float(a.dtype, [&]<class T>() {
    return with_row_threads(a.classes, [&]<int Threads>() {
      return launch(on, row_grid<Threads>(a.rows), margin_kernel<T, Threads>, a);
    });
  });
}

Status margin_grad(Cuda on, const MarginGrad& a) {
  if (!is_valid(a)) return Status::bad_args;
  return with_float(a.dtype, [&]<class T>() {
    return with_row_threads(a.classes, [&]<int Threads>() {
      return launch(on, row_grid<Threads>(a.rows), margin_grad_kernel<T, Threads>, a);
    });
  });
}

}  // namespace moat::kernels
