#include "kernels/cuda.cuh"
#include "kernels/softmax.h"
#include "kernels/warp.cuh"

namespace moat::kernels {

namespace {

constexpr int kThreads = 256;

// A block per row, three passes over it; sums in float64, as on the CPU.
template <class T>
__global__ void __launch_bounds__(kThreads) softmax_kernel(Softmax a) {
  using C = compute_t<T>;
  __shared__ C maxima[kThreads / kWarp];
  __shared__ double sums[kThreads / kWarp];
  __shared__ int firsts[kThreads / kWarp];
  const T* x = static_cast<const T*>(a.x) + int64_t{blockIdx.x} * a.columns;
  T* y = static_cast<T*>(a.y) + int64_t{blockIdx.x} * a.columns;

  C max = -INFINITY;
  for (int i = threadIdx.x; i < a.columns; i += kThreads) max = Largest()(max, C(x[i]));
  max = block_reduce<kThreads>(max, Largest(), maxima);
  int first = a.columns;  // the maximum that log1p(rest) leaves out, see row_softmax.h
  for (int i = threadIdx.x; i < a.columns && first == a.columns; i += kThreads)
    if (C(x[i]) == max) first = i;
  first = block_reduce<kThreads>(first, Smallest(), firsts);
  double rest = threadIdx.x == 0 ? max - max : C(0);
  for (int i = threadIdx.x; i < a.columns; i += kThreads)
    if (i != first) rest += exp(C(x[i]) - max);
  rest = block_reduce<kThreads>(rest, Sum(), sums);

  const C log_sum = static_cast<C>(log1p(rest)), scale = static_cast<C>(1 / (1 + rest));
  for (int i = threadIdx.x; i < a.columns; i += kThreads) {
    const C distance = C(x[i]) - max;
    y[i] = T(a.form == SoftmaxForm::softmax ? exp(distance) * scale : distance - log_sum);
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) softmax_grad_kernel(SoftmaxGrad a) {
  using C = compute_t<T>;
  __shared__ double sums[kThreads / kWarp];
  const int64_t row = int64_t{blockIdx.x} * a.columns;
  const T *y = static_cast<const T*>(a.y) + row, *d_y = static_cast<const T*>(a.d_y) + row;
  T* d_x = static_cast<T*>(a.d_x) + row;
  const bool is_log = a.form == SoftmaxForm::log_softmax;
  double sum = 0;
  for (int i = threadIdx.x; i < a.columns; i += kThreads)
    sum += (is_log ? 1.0 : double{C(y[i])}) * C(d_y[i]);
  sum = block_reduce<kThreads>(sum, Sum(), sums);
  for (int i = threadIdx.x; i < a.columns; i += kThreads)
    d_x[i] =
        T(static_cast<C>(is_log ? C(d_y[i]) - exp(C(y[i])) * sum : C(y[i]) * (C(d_y[i]) - sum)));
}

bool is_valid(int rows, int columns) { return rows >= 0 && columns >= 0; }

}  // namespace

Status softmax(Cuda on, const Softmax& a) {
  if (!is_valid(a.rows, a.columns)) return Status::bad_args;
  if (a.columns == 0) return Status::ok;
  return with_float(a.dtype, [&]<class T>() {
    return launch(on, {dim3(a.rows), dim3(kThreads)}, softmax_kernel<T>, a);
  });
}

Status softmax_grad(Cuda on, const SoftmaxGrad& a) {
  if (!is_valid(a.rows, a.columns)) return Status::bad_args;
  if (a.columns == 0) return Status::ok;
  return with_float(a.dtype, [&]<class T>() {
    return launch(on, {dim3(a.rows), dim3(kThreads)}, softmax_grad_kernel<T>, a);
  });
}

}  // namespace moat::kernels
