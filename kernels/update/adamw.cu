#include "kernels/update/adamw.h"

#include "kernels/cuda.cuh"
#include "kernels/cuda/stretch.cuh"
#include "kernels/cuda/vector.cuh"

// A launch of one thread counts the step, then one pass: weights and moments are read and written
// once, gradients read once, 28 bytes a float32 weight.

namespace moat::kernels {

namespace {

constexpr int kThreads = 256;

__global__ void count_step_kernel(Adamw a) {
  if (a.skip && *a.skip != 0) return;
  a.powers[0] *= a.beta1;
  a.powers[1] *= a.beta2;
}

template <class T, int N>
__global__ void __launch_bounds__(kThreads) adamw_kernel(Adamw a) {
  if (a.skip && *a.skip != 0) return;
  const double rate = a.lr_factor ? a.lr * *a.lr_factor : a.lr;
  const T kept = static_cast<T>(1 - rate * a.weight_decay),
          length = static_cast<T>(rate / (1 - a.powers[0])),
          root = static_cast<T>(sqrt(1 - a.powers[1])), eps = static_cast<T>(a.eps),
          share = static_cast<T>(1 - a.beta1), beta2 = static_cast<T>(a.beta2),
          square_share = static_cast<T>(1 - a.beta2);
  T *w = static_cast<T*>(a.weights), *m = static_cast<T*>(a.first_moment),
    *v = static_cast<T*>(a.second_moment);
  const T* d_w = static_cast<const T*>(a.gradients);
  const auto step = [&](int64_t i, T& weight, T g, T& first, T& second) {
    first += share * (g - first);
    second = beta2 * second + square_share * g * g;
    // Fused by name, so that a weight has the same bits with a mask and without.
    weight = fma(a.decayed && !a.decayed[i] ? T(1) : kept, weight,
                 -length * (first / (sqrt(second) / root + eps)));
  };
  int64_t at = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * N;
  if (at + N <= a.count) {
    Vector<T, N> weights = load<N>(w + at), first = load<N>(m + at), second = load<N>(v + at);
    const Vector<T, N> gradients = load<N>(d_w + at);
#pragma unroll
    for (int n = 0; n < N; ++n)
      step(at + n, weights.values[n], gradients.values[n], first.values[n], second.values[n]);
    store(w + at, weights);
    store(m + at, first);
    store(v + at, second);
    return;
  }
  for (; at < a.count; ++at) step(at, w[at], d_w[at], m[at], v[at]);
}

template <class T>
Status step(Cuda on, const Adamw& a) {
  const Status counted = launch(on, {dim3(1), dim3(1)}, count_step_kernel, a);
  if (counted != Status::ok) return counted;
  return with_vector<T>(0, {a.weights, a.gradients, a.first_moment, a.second_moment}, [&]<int N>() {
    return launch(on, {blocks_of(a.count, int64_t{kThreads} * N), dim3(kThreads)},
                  adamw_kernel<T, N>, a);
  });
}

}  // namespace

Status adamw(Cuda on, const Adamw& a) {
  if (a.count < 0) return Status::bad_args;
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
