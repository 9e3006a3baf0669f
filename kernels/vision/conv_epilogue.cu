#include "kernels/vision/conv_epilogue.h"

#include "kernels/cuda.cuh"
#include "kernels/cuda/stretch.cuh"
#include "kernels/cuda/vector.cuh"
#include "kernels/vision/conv2d_finish.h"

namespace moat::kernels {

namespace {

constexpr int kThreads = 256;

// y is read and written once, residual and mask read once; the bias stays in the cache. A vector
// lies within one pixel.
template <class T, int N>
__global__ void __launch_bounds__(kThreads) conv_epilogue_kernel(ConvEpilogue a) {
  using C = compute_t<T>;
  const int64_t at = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * N;
  if (at >= a.pixels * a.channels) return;
  T* y = static_cast<T*>(a.y) + at;
  const C* bias = a.bias ? static_cast<const C*>(a.bias) + at % a.channels : nullptr;
  Vector<T, N> values = load<N>(y), residual{}, mask{};
  if (a.residual) residual = load<N>(static_cast<const T*>(a.residual) + at);
  if (a.mask) mask = load<N>(static_cast<const T*>(a.mask) + at);
#pragma unroll
  for (int i = 0; i < N; ++i) {
    C sum = C(values.values[i]);
    if (a.residual) sum += C(residual.values[i]);
    if (bias) sum += bias[i];
    if (a.mask) sum = behind_relu(sum, C(mask.values[i]));
    values.values[i] = T(a.activation == ConvActivation::relu && !(sum > 0) ? C(0) : sum);
  }
  store(y, values);
}

}  // namespace

Status conv_epilogue(Cuda on, const ConvEpilogue& a) {
  if (a.pixels < 0 || a.channels < 0) return Status::bad_args;
  return with_float(a.dtype, [&]<class T>() {
    return with_vector<T>(a.channels, {a.y, a.residual, a.mask}, [&]<int N>() {
      return launch(on, {blocks_of(a.pixels * a.channels, int64_t{kThreads} * N), dim3(kThreads)},
                    conv_epilogue_kernel<T, N>, a);
    });
  });
}

}  // namespace moat::kernels
