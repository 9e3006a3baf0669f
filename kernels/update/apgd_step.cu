#include "kernels/update/apgd_step.h"

#include <cmath>

#include "kernels/cuda.cuh"
#include "kernels/cuda/vector.cuh"
#include "kernels/cuda/warp.cuh"
#include "kernels/update/ball.h"

// Pixel by pixel the arithmetic of apgd_step.cpp, in float64. A block per image, for the image's
// step and, in L2, its norms, which are sums in the order of the block's threads. L∞ reads four
// values and writes one per pixel, in vectors of 16 bytes where they fit; the later passes of L2
// read an image from L1 or L2.

namespace moat::kernels {

namespace {

constexpr int kThreads = 512;

__device__ double step_of(const ApgdStep& a) {
  const double step = usable(a.step[blockIdx.x]);
  return step > 0 ? step : 0;
}

__device__ double clamped(double x, double low, double high) {
  return x > low ? (x < high ? x : high) : low;
}

__device__ double with_momentum(double momentum, double x, double previous, double z) {
  return x + momentum * (z - x) + (1 - momentum) * (x - previous);
}

template <class T>
__device__ T linf_pixel(const ApgdStep& a, double radius, double step, T x, T previous, T gradient,
                        T center) {
  const double low = around(center, -radius), high = around(center, radius),
               z = clamped(x + step * sign(gradient), low, high);
  return static_cast<T>(clamped(with_momentum(a.momentum, x, previous, z), low, high));
}

// The pointers at one image.
template <class T>
struct Image {
  const T *x, *previous, *gradient, *center;
  T* y;

  __device__ explicit Image(const ApgdStep& a) {
    const int64_t at = int64_t{blockIdx.x} * a.pixels;
    x = static_cast<const T*>(a.x) + at;
    previous = static_cast<const T*>(a.previous) + at;
    gradient = static_cast<const T*>(a.gradient) + at;
    center = static_cast<const T*>(a.center) + at;
    y = static_cast<T*>(a.y) + at;
  }
};

template <class T, int N>
__global__ void __launch_bounds__(kThreads) linf_kernel(ApgdStep a, double radius) {
  const Image<T> image(a);
  const double step = step_of(a);
  for (int64_t at = int64_t{threadIdx.x} * N; at < a.pixels; at += kThreads * N) {
    const Vector<T, N> x = load<N>(image.x + at), previous = load<N>(image.previous + at),
                       gradient = load<N>(image.gradient + at), center = load<N>(image.center + at);
    Vector<T, N> y;
#pragma unroll
    for (int n = 0; n < N; ++n)
      y.values[n] = linf_pixel(a, radius, step, x.values[n], previous.values[n], gradient.values[n],
                               center.values[n]);
    store(image.y + at, y);
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) l2_kernel(ApgdStep a) {
  __shared__ double scratch[kThreads / kWarp];
  const Image<T> image(a);
  const double step = step_of(a);
  const auto norm_of = [&](auto&& value) {
    double sum = 0;
    for (int64_t i = threadIdx.x; i < a.pixels; i += kThreads) sum += value(i) * value(i);
    return sqrt(block_reduce<kThreads>(sum, Sum(), scratch));
  };
  const auto shrink_of = [&](double norm) { return norm > a.eps ? a.eps / norm : 1; };

  const double length = norm_of([&](int64_t i) { return usable(image.gradient[i]); });
  const double per_unit = length > 0 ? 1 / length : 0;
  const auto stepped = [&](int64_t i) {
    return image.x[i] + step * (per_unit * usable(image.gradient[i])) - image.center[i];
  };
  const double first = shrink_of(norm_of(stepped));
  const auto offset = [&](int64_t i) {
    const double z = clamped(image.center[i] + first * stepped(i), 0, 1);
    return with_momentum(a.momentum, image.x[i], image.previous[i], z) - image.center[i];
  };
  const double second = shrink_of(norm_of(offset));
  for (int64_t i = threadIdx.x; i < a.pixels; i += kThreads)
    image.y[i] = around(image.center[i], second * offset(i));
}

template <class T>
Status step_images(Cuda on, const ApgdStep& a) {
  const Grid grid{dim3(static_cast<unsigned>(a.images)), dim3(kThreads)};
  if (a.norm == Norm::l2) return launch(on, grid, l2_kernel<T>, a);
  return with_vector<T>(a.pixels, {a.x, a.previous, a.gradient, a.center, a.y}, [&]<int N>() {
    return launch(on, grid, linf_kernel<T, N>, a, double{rounded_down<T>(a.eps)});
  });
}

}  // namespace

Status apgd_step(Cuda on, const ApgdStep& a) {
  if (a.images < 0 || a.pixels < 0 || a.eps < 0 || !std::isfinite(a.eps) ||
      !(a.momentum >= 0 && a.momentum <= 1))
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
