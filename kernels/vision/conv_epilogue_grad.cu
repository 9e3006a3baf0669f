#include "kernels/vision/conv_epilogue_grad.h"

#include <cmath>

#include "kernels/cuda.cuh"
#include "kernels/cuda/stretch.cuh"
#include "kernels/cuda/vector.cuh"
#include "kernels/cuda/warp.cuh"
#include "kernels/vision/per_channel.cuh"

// Bytes: a read of d_y, y and the residual and a write of d_pre. With d_gate an image is a block's,
// whose sum has the order of its threads; without it all values are one row.

namespace moat::kernels {

namespace {

constexpr int kThreads = 512;

template <class T>
__device__ T behind_relu(T d_y, T y) {
  return compute_t<T>(y) > 0 ? d_y : T(compute_t<T>(0));
}

// The bias of an image's segment, nullptr when it has none.
template <class C>
__device__ const C* bias_of(const ConvEpilogueGrad& a, int image) {
  if (!a.bias) return nullptr;
  int low = 0, high = a.segments + 1;  // offsets[0 .. low) are not behind the image
  while (low < high) {
    const int middle = low + (high - low) / 2;
    if (a.offsets[middle] <= image)
      low = middle + 1;
    else
      high = middle;
  }
  return low >= 1 && low <= a.segments
             ? static_cast<const C*>(a.bias) + int64_t{low - 1} * a.channels
             : nullptr;
}

template <class T, int N>
__global__ void __launch_bounds__(kThreads, 2) gate_grad_kernel(ConvEpilogueGrad a) {
  using C = compute_t<T>;
  __shared__ double scratch[kThreads / kWarp];
  const int64_t size = int64_t{a.pixels} * a.channels, first = blockIdx.x * size;
  const T *d_y = static_cast<const T*>(a.d_y) + first, *y = static_cast<const T*>(a.y) + first;
  const T* residual = a.residual ? static_cast<const T*>(a.residual) + first : nullptr;
  T* d_pre = a.d_pre ? static_cast<T*>(a.d_pre) + first : nullptr;
  const C* bias = bias_of<C>(a, static_cast<int>(blockIdx.x));
  const bool relu = a.activation == ConvActivation::relu;
  const int step = kThreads * N % a.channels;
  int channel = static_cast<int>(threadIdx.x) * N % a.channels;
  C sum = 0;
  for (int64_t i = int64_t{threadIdx.x} * N; i < size; i += kThreads * N) {
    Vector<T, N> d = load<N>(d_y + i), added{};
    const Vector<T, N> v = load<N>(y + i);
    C shift[N] = {};
    if (residual) added = load<N>(residual + i);
    if (bias) load_channels(bias + channel, shift);
#pragma unroll
    for (int n = 0; n < N; ++n) {
      if (relu) d.values[n] = behind_relu(d.values[n], v.values[n]);
      sum = std::fma(C(d.values[n]), C(v.values[n]) - shift[n] - C(added.values[n]), sum);
    }
    if (d_pre) store_anywhere(d_pre + i, d);
    channel += step;
    if (channel >= a.channels) channel -= a.channels;
  }
  const double total = block_reduce<kThreads>(double{sum}, Sum(), scratch);
  if (threadIdx.x == 0) static_cast<C*>(a.d_gate)[blockIdx.x] = static_cast<C>(total);
}

// d_pre alone. The last vector may be partial.
template <class T, int N>
__global__ void __launch_bounds__(kThreads, 2) relu_grad_kernel(ConvEpilogueGrad a) {
  const int64_t count = int64_t{a.n} * a.pixels * a.channels;
  const T *d_y = static_cast<const T*>(a.d_y), *y = static_cast<const T*>(a.y);
  T* d_pre = static_cast<T*>(a.d_pre);
  const bool relu = a.activation == ConvActivation::relu;
  int64_t at = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * N;
  if (at + N <= count) {
    Vector<T, N> d = load<N>(d_y + at);
    if (relu) {
      const Vector<T, N> v = load<N>(y + at);
#pragma unroll
      for (int n = 0; n < N; ++n) d.values[n] = behind_relu(d.values[n], v.values[n]);
    }
    store(d_pre + at, d);
    return;
  }
  for (; at < count; ++at) d_pre[at] = relu ? behind_relu(d_y[at], y[at]) : d_y[at];
}

}  // namespace

Status conv_epilogue_grad(Cuda on, const ConvEpilogueGrad& a) {
  if (!is_valid_epilogue_grad(a)) return Status::bad_args;
  const int64_t size = int64_t{a.pixels} * a.channels;
  return with_float(a.dtype, [&]<class T>() {
    if (a.d_gate) {
      const int64_t width = a.bias ? a.channels : size;
      return with_vector<T>(width, {a.d_y, a.y, a.residual, a.bias}, [&]<int N>() {
        const Grid grid{dim3(static_cast<unsigned>(a.n)), dim3(kThreads)};
        return launch(on, grid, gate_grad_kernel<T, N>, a);
      });
    }
    if (!a.d_pre) return Status::ok;
    return with_vector<T>(0, {a.d_y, a.y, a.d_pre}, [&]<int N>() {
      const Grid grid{blocks_of(a.n * size, int64_t{kThreads} * N), dim3(kThreads)};
      return launch(on, grid, relu_grad_kernel<T, N>, a);
    });
  });
}

}  // namespace moat::kernels
