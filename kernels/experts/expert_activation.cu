#include "kernels/experts/expert_activation.h"

#include "kernels/cuda.cuh"
#include "kernels/cuda/stretch.cuh"
#include "kernels/cuda/vector.cuh"
#include "kernels/experts/activations_bf16.cuh"

// Every value is read once and written once, in vectors of 16 bytes. In bfloat16 gelu is an
// approximation far below its rounding, so that memory bounds it.

namespace moat::kernels {

namespace {

constexpr int kWarps = 8;  // per block
constexpr int kThreads = kWarps * kWarp;

// The values are taken as one row of rows · width, a vector per thread; the last one may be
// partial.
template <class T, class Function, int N>
__global__ void __launch_bounds__(kThreads, 4) apply_kernel(ApplyExpertActivation a) {
  using C = compute_t<T>;
  const int64_t count = int64_t{a.rows} * a.width;
  const T* pre = static_cast<const T*>(a.pre);
  T* y = static_cast<T*>(a.y);
  int64_t at = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * N;
  if (at + N <= count) {
    Vector<T, N> v = load<N>(pre + at);
#pragma unroll
    for (T& x : v.values) x = T(Function::value(static_cast<C>(x)));
    store(y + at, v);
    return;
  }
  for (; at < count; ++at) y[at] = T(Function::value(static_cast<C>(pre[at])));
}

template <class T, class Function, int N>
__global__ void __launch_bounds__(kThreads, 4) apply_grad_kernel(ExpertActivationGrad a) {
  using C = compute_t<T>;
  const int64_t count = int64_t{a.rows} * a.width;
  const T *pre = static_cast<const T*>(a.pre), *d_y = static_cast<const T*>(a.d_y);
  T* d_pre = static_cast<T*>(a.d_pre);
  int64_t at = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * N;
  if (at + N <= count) {
    const Vector<T, N> x = load<N>(pre + at);
    Vector<T, N> d = load<N>(d_y + at);
#pragma unroll
    for (int n = 0; n < N; ++n)
      d.values[n] = T(static_cast<C>(d.values[n]) * Function::slope(static_cast<C>(x.values[n])));
    store(d_pre + at, d);
    return;
  }
  for (; at < count; ++at)
    d_pre[at] = T(static_cast<C>(d_y[at]) * Function::slope(static_cast<C>(pre[at])));
}

template <class T, class F>
void with_function_of(ExpertActivation activation, F&& f) {
  if constexpr (std::is_same_v<T, Bf16>)
    with_bf16_function(activation, f);
  else
    with_function<T>(activation, f);
}

// Columns of a row that a warp of swiglu takes, two vectors a lane.
template <int N>
constexpr int64_t kColumns = 2 * kWarp* N;

// Calls body(row, column) for this lane's vectors of N columns.
template <int N, class Body>
__device__ void for_each_vector(int rows, int columns, Body&& body) {
  const Stretch s = warp_stretch(columns, kColumns<N>);
  if (s.row >= rows) return;
  for (int64_t column = s.first + lane_index() * N; column < s.last; column += kWarp * N)
    body(s.row, column);
}

template <class T, int N>
__global__ void __launch_bounds__(kThreads, 4) swiglu_kernel(ApplyExpertActivation a) {
  using C = compute_t<T>;
  const int half = a.width / 2;
  for_each_vector<N>(a.rows, half, [&](int64_t row, int64_t column) {
    const T* pre = static_cast<const T*>(a.pre) + row * a.width + column;
    const Vector<T, N> gate = load<N>(pre), value = load<N>(pre + half);
    Vector<T, N> y;
#pragma unroll
    for (int n = 0; n < N; ++n)
      y.values[n] =
          T(Silu<C>::value(static_cast<C>(gate.values[n])) * static_cast<C>(value.values[n]));
    store(static_cast<T*>(a.y) + row * half + column, y);
  });
}

template <class T, int N>
__global__ void __launch_bounds__(kThreads, 4) swiglu_grad_kernel(ExpertActivationGrad a) {
  using C = compute_t<T>;
  const int half = a.width / 2;
  for_each_vector<N>(a.rows, half, [&](int64_t row, int64_t column) {
    const T* pre = static_cast<const T*>(a.pre) + row * a.width + column;
    const Vector<T, N> gate = load<N>(pre), value = load<N>(pre + half);
    const Vector<T, N> d_y = load<N>(static_cast<const T*>(a.d_y) + row * half + column);
    Vector<T, N> d_gate, d_value;
#pragma unroll
    for (int n = 0; n < N; ++n) {
      const C g = static_cast<C>(gate.values[n]), d = static_cast<C>(d_y.values[n]);
      d_gate.values[n] = T(d * static_cast<C>(value.values[n]) * Silu<C>::slope(g));
      d_value.values[n] = T(d * Silu<C>::value(g));
    }
    T* d_pre = static_cast<T*>(a.d_pre) + row * a.width + column;
    store(d_pre, d_gate);
    store(d_pre + half, d_value);
  });
}

Grid flat_grid(int64_t count, int vector) {
  return {blocks_of(count, int64_t{kThreads} * vector), dim3(kThreads)};
}

template <class Args>
bool is_valid(const Args& a) {
  return a.rows >= 0 && a.width >= 0 &&
         (a.activation != ExpertActivation::swiglu || a.width % 2 == 0);
}

}  // namespace

Status expert_activation(Cuda on, const ApplyExpertActivation& a) {
  if (!is_valid(a)) return Status::bad_args;
  return with_float(a.dtype, [&]<class T>() {
    if (a.activation == ExpertActivation::swiglu)
      return with_vector<T>(a.width / 2, {a.pre, a.y}, [&]<int N>() {
        return launch(on, stretch_grid(a.rows, a.width / 2, kColumns<N>, kWarps),
                      swiglu_kernel<T, N>, a);
      });
    Status status = Status::ok;
    with_function_of<T>(a.activation, [&]<class Function>() {
      status = with_vector<T>(0, {a.pre, a.y}, [&]<int N>() {
        const Grid grid = flat_grid(int64_t{a.rows} * a.width, N);
        return launch(on, grid, apply_kernel<T, Function, N>, a);
      });
    });
    return status;
  });
}

Status expert_activation_grad(Cuda on, const ExpertActivationGrad& a) {
  if (!is_valid(a)) return Status::bad_args;
  return with_float(a.dtype, [&]<class T>() {
    if (a.activation == ExpertActivation::swiglu)
      return with_vector<T>(a.width / 2, {a.pre, a.d_y, a.d_pre}, [&]<int N>() {
        return launch(on, stretch_grid(a.rows, a.width / 2, kColumns<N>, kWarps),
                      swiglu_grad_kernel<T, N>, a);
      });
    Status status = Status::ok;
    with_function_of<T>(a.activation, [&]<class Function>() {
      status = with_vector<T>(0, {a.pre, a.d_y, a.d_pre}, [&]<int N>() {
        const Grid grid = flat_grid(int64_t{a.rows} * a.width, N);
        return launch(on, grid, apply_grad_kernel<T, Function, N>, a);
      });
    });
    return status;
  });
}

}  // namespace moat::kernels
