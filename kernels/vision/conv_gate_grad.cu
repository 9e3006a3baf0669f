#include "kernels/vision/conv_gate_grad.h"

#include <cmath>

#include "kernels/cuda.cuh"
#include "kernels/cuda/stretch.cuh"
#include "kernels/cuda/vector.cuh"
#include "kernels/cuda/warp.cuh"
#include "kernels/vision/per_channel.cuh"

// Bytes: a read of d_pre, y and the residual. An image is a block's, whose sum has the order of its
// threads.

namespace moat::kernels {

namespace {

constexpr int kThreads = 512;

// The bias of an image's segment, nullptr when it has none.
template <class C>
__device__ const C* bias_of(const ConvGateGrad& a, int image) {
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
__global__ void __launch_bounds__(kThreads, 2) gate_grad_kernel(ConvGateGrad a) {
  using C = compute_t<T>;
  __shared__ double scratch[kThreads / kWarp];
  const int64_t size = int64_t{a.pixels} * a.channels, first = blockIdx.x * size;
  const T *d_pre = static_cast<const T*>(a.d_pre) + first, *y = static_cast<const T*>(a.y) + first;
  const T* residual = a.residual ? static_cast<const T*>(a.residual) + first : nullptr;
  const C* bias = bias_of<C>(a, static_cast<int>(blockIdx.x));
  const int step = kThreads * N % a.channels;
  int channel = static_cast<int>(threadIdx.x) * N % a.channels;
  C sum = 0;
  for (int64_t i = int64_t{threadIdx.x} * N; i < size; i += kThreads * N) {
    const Vector<T, N> d = load<N>(d_pre + i), v = load<N>(y + i);
    Vector<T, N> added{};
    C shift[N] = {};
    if (residual) added = load<N>(residual + i);
    if (bias) load_channels(bias + channel, shift);
#pragma unroll
    for (int n = 0; n < N; ++n)
      sum = std::fma(C(d.values[n]), C(v.values[n]) - shift[n] - C(added.values[n]), sum);
    channel += step;
    if (channel >= a.channels) channel -= a.channels;
  }
  const double total = block_reduce<kThreads>(double{sum}, Sum(), scratch);
  if (threadIdx.x == 0) static_cast<C*>(a.d_gate)[blockIdx.x] = static_cast<C>(total);
}

}  // namespace

Status conv_gate_grad(Cuda on, const ConvGateGrad& a) {
  if (!is_valid(a)) return Status::bad_args;
  const int64_t size = int64_t{a.pixels} * a.channels;
  return with_float(a.dtype, [&]<class T>() {
    const int64_t width = a.bias ? a.channels : size;
    return with_vector<T>(width, {a.d_pre, a.y, a.residual, a.bias}, [&]<int N>() {
      const Grid grid{dim3(static_cast<unsigned>(a.n)), dim3(kThreads)};
      return launch(on, grid, gate_grad_kernel<T, N>, a);
    });
  });
}

}  // namespace moat::kernels
