#include "kernels/update/ball_step.h"

#include <cmath>

#include "kernels/cuda.cuh"
#include "kernels/cuda/stretch.cuh"
#include "kernels/cuda/vector.cuh"
#include "kernels/cuda/warp.cuh"
#include "kernels/update/ball.h"

// Pixel by pixel the arithmetic of ball_step.cpp, in float64. L∞ without a velocity is one pass
// over the pixels in vectors of 16 bytes. What needs a norm has a block per image, whose passes
// after the first one read an image from L1 or L2; a norm is a sum in the order of the block's
// threads, so that nothing depends on the batch.

namespace moat::kernels {

namespace {

constexpr int kThreads = 512;

// One pixel's step and projection, L∞.
template <class T>
struct LinfStep {
  double radius, step;

  __device__ T operator()(T x, T center, T direction) const {
    const T z = static_cast<T>(x + step * sign(direction));
    const T low = around(center, -radius), high = around(center, radius);
    return z > low ? (z < high ? z : high) : low;  // NaN lands on low
  }
};

template <class T, int N>
__global__ void __launch_bounds__(kThreads, 2) linf_kernel(BallStep a, LinfStep<T> step) {
  const int64_t count = int64_t{a.images} * a.pixels;
  const T *x = static_cast<const T*>(a.x), *center = static_cast<const T*>(a.center);
  const T* gradient = static_cast<const T*>(a.gradient);
  T* y = static_cast<T*>(a.y);
  int64_t at = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * N;
  if (at + N <= count) {
    const Vector<T, N> from = load<N>(x + at), c = load<N>(center + at);
    const Vector<T, N> g = gradient ? load<N>(gradient + at) : Vector<T, N>{};
    Vector<T, N> to;
#pragma unroll
    for (int n = 0; n < N; ++n) to.values[n] = step(from.values[n], c.values[n], g.values[n]);
    store(y + at, to);
    return;
  }
  for (; at < count; ++at) y[at] = step(x[at], center[at], gradient ? gradient[at] : T(0));
}

// One image, a block. Every thread keeps to its own pixels, from the velocity to y.
template <class T>
__global__ void __launch_bounds__(kThreads) image_kernel(BallStep a, LinfStep<T> linf) {
  __shared__ double scratch[kThreads / kWarp];
  const int64_t first = int64_t{blockIdx.x} * a.pixels;
  const T *x = static_cast<const T*>(a.x) + first,
          *center = static_cast<const T*>(a.center) + first;
  const T* gradient = a.gradient ? static_cast<const T*>(a.gradient) + first : nullptr;
  T* velocity = a.velocity ? static_cast<T*>(a.velocity) + first : nullptr;
  T* y = static_cast<T*>(a.y) + first;
  const auto for_each_pixel = [&](auto&& body) {
    for (int64_t i = threadIdx.x; i < a.pixels; i += kThreads) body(i);
  };
  const auto sum_of = [&](auto&& term) {
    double sum = 0;
    for_each_pixel([&](int64_t i) { sum += term(i); });
    return block_reduce<kThreads>(sum, Sum(), scratch);
  };

  if (velocity) {
    const double norm = sum_of([&](int64_t i) { return fabs(usable(gradient[i])); });
    for_each_pixel([&](int64_t i) {
      const double unit = norm > 0 ? usable(gradient[i]) / norm : 0;
      velocity[i] = static_cast<T>(a.momentum * velocity[i] + unit);
    });
  }
  const T* direction = velocity ? velocity : gradient;
  if (a.norm == Norm::linf) {
    for_each_pixel([&](int64_t i) { y[i] = linf(x[i], center[i], direction[i]); });
    return;
  }

  double factor = 0;
  if (direction) {
    const double square =
        sum_of([&](int64_t i) { return usable(direction[i]) * usable(direction[i]); });
    if (square > 0) factor = a.step / sqrt(square);
  }
  const auto offset = [&](int64_t i) {
    const double moved = direction ? x[i] + factor * usable(direction[i]) : double{x[i]};
    return moved != moved ? 0 : moved - center[i];
  };
  const double norm = sqrt(sum_of([&](int64_t i) { return offset(i) * offset(i); }));
  const double shrink = norm > a.eps ? a.eps / norm : 1;
  for_each_pixel([&](int64_t i) { y[i] = around(center[i], shrink * offset(i)); });
}

template <class T>
Status step_images(Cuda on, const BallStep& a) {
  const LinfStep<T> linf = {.radius = double{rounded_down<T>(a.eps)}, .step = a.step};
  if (a.norm == Norm::l2 || a.velocity)
    return launch(on, {dim3(a.images), dim3(kThreads)}, image_kernel<T>, a, linf);
  return with_vector<T>(0, {a.x, a.gradient, a.center, a.y}, [&]<int N>() {
    const Grid grid{blocks_of(int64_t{a.images} * a.pixels, int64_t{kThreads} * N), dim3(kThreads)};
    return launch(on, grid, linf_kernel<T, N>, a, linf);
  });
}

}  // namespace

Status ball_step(Cuda on, const BallStep& a) {
  const bool finite = std::isfinite(a.eps) && std::isfinite(a.step) && std::isfinite(a.momentum);
  if (a.images < 0 || a.pixels < 0 || a.eps < 0 || !finite || (a.velocity && !a.gradient))
    return Status::bad_args;
  switch (a.dtype) {
    case Dtype::f64:
      return step_images<double>(on, a);
    case Dtype::f32:
      return step_images<float>(on, a);
    default:
      return Status::unsupported;
  }
}

}  // namespace moat::kernels
