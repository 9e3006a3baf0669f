#include "kernels/loss/softmax.h"

#include "kernels/loss/row_softmax.cuh"

namespace moat::kernels {

namespace {

// Three passes over a row, the later ones from L1; sums in float64, as on the CPU.
template <class T, int Threads>
__global__ void __launch_bounds__(kRowBlock) softmax_kernel(Softmax a) {
  using C = compute_t<T>;
  const RowThreads<Threads> mine;
  if (mine.row >= a.rows) return;
  const T* x = static_cast<const T*>(a.x) + mine.row * a.columns;
  T* y = static_cast<T*>(a.y) + mine.row * a.columns;

  C max = -INFINITY;
  for (int i = mine.thread; i < a.columns; i += Threads) max = Largest()(max, C(x[i]));
  max = mine.reduce(max, Largest());
  int first = a.columns;  // the maximum that log1p(rest) leaves out, see row_softmax.h
  for (int i = mine.thread; i < a.columns && first == a.columns; i += Threads)
    if (C(x[i]) == max) first = i;
  first = mine.reduce(first, Smallest());
  double rest = mine.thread == 0 ? max - max : C(0);
  for (int i = mine.thread; i < a.columns; i += Threads)
    if (i != first) rest += exp(C(x[i]) - max);
  rest = mine.reduce(rest, Sum());

  const C log_sum = static_cast<C>(log1p(rest)), scale = static_cast<C>(1 / (1 + rest));
  for (int i = mine.thread; i < a.columns; i += Threads) {
    const C distance = C(x[i]) - max;
    y[i] = T(a.form == SoftmaxForm::softmax ? exp(distance) * scale : distance - log_sum);
  }
}

template <class T, int Threads>
__global__ void __launch_bounds__(kRowBlock) softmax_grad_kernel(SoftmaxGrad a) {
  using C = compute_t<T>;
  const RowThreads<Threads> mine;
  if (mine.row >= a.rows) return;
  const int64_t row = mine.row * a.columns;
  const T *y = static_cast<const T*>(a.y) + row, *d_y = static_cast<const T*>(a.d_y) + row;
  T* d_x = static_cast<T*>(a.d_x) + row;
  const bool is_log = a.form == SoftmaxForm::log_softmax;
  double sum = 0;
  for (int i = mine.thread; i < a.columns; i += Threads)
    sum += (is_log ? 1.0 : double{C(y[i])}) * C(d_y[i]);
  sum = mine.reduce(sum, Sum());
  for (int i = mine.thread; i < a.columns; i += Threads)
    d_x[i] =
        T(static_cast<C>(is_log ? C(d_y[i]) - exp(C(y[i])) * sum : C(y[i]) * (C(d_y[i]) - sum)));
}

bool is_valid(int rows, int columns) { return rows >= 0 && columns >= 0; }

}  // namespace

Status softmax(Cuda on, const Softmax& a) {
  if (!is_valid(a.rows, a.columns)) return Status::bad_args;
  if (a.columns == 0) return Status::ok;
  return with_float(a.dtype, [&]<class T>() {
    return with_row_threads(a.columns, [&]<int Threads>() {
      return launch(on, row_grid<Threads>(a.rows), softmax_kernel<T, Threads>, a);
    });
  });
}

Status softmax_grad(Cuda on, const SoftmaxGrad& a) {
  if (!is_valid(a.rows, a.columns)) return Status::bad_args;
  if (a.columns == 0) return Status::ok;
  return with_float(a.dtype, [&]<class T>() {
    return with_row_threads(a.columns, [&]<int Threads>() {
      return launch(on, row_grid<Threads>(a.rows), softmax_grad_kernel<T, Threads>, a);
    });
  });
}

}  // namespace moat::kernels
