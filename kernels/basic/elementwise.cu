#include "kernels/basic/elementwise.h"

#include <type_traits>

#include "kernels/basic/elementwise_functions.h"
#include "kernels/cuda.cuh"
#include "kernels/cuda/axes.cuh"
#include "kernels/cuda/stretch.cuh"
#include "kernels/cuda/vector.cuh"

// A value per thread; vectors of 16 bytes where operands are dense or constant. Each value is read
// and written once.

namespace moat::kernels {

namespace {

constexpr int kThreads = 256;

template <class T, int N, UnaryOp kOp>
__global__ void __launch_bounds__(kThreads) unary_kernel(Unary a) {
  using C = compute_t<T>;
  const C p = static_cast<C>(a.p), q = static_cast<C>(a.q);
  const T* x = static_cast<const T*>(a.x);
  T* y = static_cast<T*>(a.y);
  int64_t at = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * N;
  if (at + N <= a.count) {
    Vector<T, N> v = load<N>(x + at);
#pragma unroll
    for (T& element : v.values) element = T(unary_value<kOp>(C(element), p, q));
    store(y + at, v);
    return;
  }
  for (; at < a.count; ++at) y[at] = T(unary_value<kOp>(C(x[at]), p, q));
}

template <class T, int N, UnaryOp kOp>
__global__ void __launch_bounds__(kThreads) unary_grad_kernel(UnaryGrad a) {
  using C = compute_t<T>;
  const C p = static_cast<C>(a.p), q = static_cast<C>(a.q);
  const T *d_y = static_cast<const T*>(a.d_y), *saved = static_cast<const T*>(a.saved);
  T* d_x = static_cast<T*>(a.d_x);
  int64_t at = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * N;
  if (at + N <= a.count) {
    Vector<T, N> v = load<N>(d_y + at);
    const Vector<T, N> s = load<N>(saved + at);
#pragma unroll
    for (int n = 0; n < N; ++n)
      v.values[n] = T(unary_slope<kOp>(C(v.values[n]), C(s.values[n]), p, q));
    store(d_x + at, v);
    return;
  }
  for (; at < a.count; ++at) d_x[at] = T(unary_slope<kOp>(C(d_y[at]), C(saved[at]), p, q));
}

// N > 1: along the first axis both operands are vectors or one value, and no vector crosses its
// end.
template <class T, int N, BinaryOp kOp>
__global__ void __launch_bounds__(kThreads) binary_kernel(const T* a, const T* b, T* y, Axes axes) {
  using C = compute_t<T>;
  const int64_t at = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * N;
  if (N == 1 || at + N > axes.count) {
    for (int64_t i = at; i < min(at + N, axes.count); ++i) {
      const Offsets from = offsets_of(axes, i);
      y[i] = T(binary_value<kOp>(C(a[from.a]), C(b[from.b])));
    }
    return;
  }
  const auto operand = [](const T* x, int64_t stride) {
    if (stride == 1) return load<N>(x);
    Vector<T, N> same;
#pragma unroll
    for (T& element : same.values) element = *x;
    return same;
  };
  const Offsets from = offsets_of(axes, at);
  Vector<T, N> v = operand(a + from.a, axes.a_strides[0]);
  const Vector<T, N> w = operand(b + from.b, axes.b_strides[0]);
#pragma unroll
  for (int n = 0; n < N; ++n) v.values[n] = T(binary_value<kOp>(C(v.values[n]), C(w.values[n])));
  store(y + at, v);
}

Grid grid_of(int64_t count, int each) {
  return {blocks_of(count, int64_t{kThreads} * each), dim3(kThreads)};
}

// Whether vectors of `size` values that start at multiples of it can be taken from an operand.
bool takes_vectors(const Axes& axes, const std::array<int64_t, 6>& strides, const void* base,
                   int64_t size) {
  if (strides[0] == 0) return true;
  return reinterpret_cast<uintptr_t>(base) % 16 == 0 && is_run_of_vectors(axes, strides, size);
}

}  // namespace

Status unary(Cuda on, const Unary& a) {
  if (a.count < 0) return Status::bad_args;
  return with_float(a.dtype, [&]<class T>() {
    return with_op(a.op, [&]<UnaryOp kOp>() {
      const auto run = [&]<int N>() {
        return launch(on, grid_of(a.count, N), unary_kernel<T, N, kOp>, a);
      };
      if constexpr (std::is_same_v<T, double>)  // two exponentials at a time spill on sm_90a
        return run.template operator()<1>();
      else
        return with_vector<T>(0, {a.x, a.y}, run);
    });
  });
}

Status unary_grad(Cuda on, const UnaryGrad& args) {
  if (args.count < 0) return Status::bad_args;
  UnaryGrad a = args;
  if (saved_by(a.op) == Saved::nothing) a.saved = a.d_y;
  return with_float(a.dtype, [&]<class T>() {
    return with_op(a.op, [&]<UnaryOp kOp>() {
      return with_vector<T>(0, {a.d_y, a.saved, a.d_x}, [&]<int N>() {
        return launch(on, grid_of(a.count, N), unary_grad_kernel<T, N, kOp>, a);
      });
    });
  });
}

Status binary(Cuda on, const Binary& a) {
  for (int64_t extent : a.extents)
    if (extent < 0) return Status::bad_args;
  const Axes axes = merged_axes(a.extents, a.a_strides, a.b_strides);
  if (axes.count == 0) return Status::ok;
  return with_float(a.dtype, [&]<class T>() {
    constexpr int kVector = kVectorSize<T>;
    const bool vectors = (axes.rank == 1 || axes.extents[0] % kVector == 0) &&
                         reinterpret_cast<uintptr_t>(a.y) % 16 == 0 &&
                         takes_vectors(axes, axes.a_strides, a.a, kVector) &&
                         takes_vectors(axes, axes.b_strides, a.b, kVector);
    return with_op(a.op, [&]<BinaryOp kOp>() {
      const auto run = [&]<int N>() {
        return launch(on, grid_of(axes.count, N), binary_kernel<T, N, kOp>,
                      static_cast<const T*>(a.a), static_cast<const T*>(a.b), static_cast<T*>(a.y),
                      axes);
      };
      return vectors ? run.template operator()<kVector>() : run.template operator()<1>();
    });
  });
}

}  // namespace moat::kernels
