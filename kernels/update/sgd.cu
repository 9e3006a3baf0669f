#include "kernels/update/sgd.h"

#include "kernels/cuda.cuh"
#include "kernels/cuda/stretch.cuh"
#include "kernels/cuda/vector.cuh"

// One pass: weights and velocity are read and written once, gradients read once.

namespace moat::kernels {

namespace {

constexpr int kThreads = 256;

template <class T, int N>
__global__ void __launch_bounds__(kThreads) sgd_kernel(Sgd a) {
  if (a.skip && *a.skip != 0) return;
  const T lr = static_cast<T>(a.lr_factor ? a.lr * *a.lr_factor : a.lr),
          momentum = static_cast<T>(a.momentum), decay = static_cast<T>(a.weight_decay);
  T *w = static_cast<T*>(a.weights), *v = static_cast<T*>(a.velocity);
  const T* d_w = static_cast<const T*>(a.gradients);
  const auto step = [&](int64_t i, T& weight, T gradient, T& velocity) {
    const T g = gradient + (a.decayed && !a.decayed[i] ? T(0) : decay) * weight;
    if (v) velocity = momentum * velocity + g;
    weight -= lr * (v ? velocity : g);
  };
  int64_t at = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * N;
  if (at + N <= a.count) {
    Vector<T, N> weights = load<N>(w + at), velocities{};
    const Vector<T, N> gradients = load<N>(d_w + at);
    if (v) velocities = load<N>(v + at);
#pragma unroll
    for (int n = 0; n < N; ++n)
      step(at + n, weights.values[n], gradients.values[n], velocities.values[n]);
    store(w + at, weights);
    if (v) store(v + at, velocities);
    return;
  }
  for (; at < a.count; ++at) {
    T none = 0;
    step(at, w[at], d_w[at], v ? v[at] : none);
  }
}

template <class T>
Status step(Cuda on, const Sgd& a) {
  return with_vector<T>(0, {a.weights, a.gradients, a.velocity}, [&]<int N>() {
    return launch(on, {blocks_of(a.count, int64_t{kThreads} * N), dim3(kThreads)}, sgd_kernel<T, N>,
                  a);
  });
}

}  // namespace

Status sgd(Cuda on, const Sgd& a) {
  if (a.count < 0 || (!a.velocity && a.momentum != 0 && a.count > 0)) return Status::bad_args;
  switch (a.dtype) {
    case Dtype::f64:
      return step<double>(on, a);
    case Dtype::f32:
      return step<float>(on, a);
    default:
      return Status::unsupported;
  }
}

}  // namespace moat::kernels
