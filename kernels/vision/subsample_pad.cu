#include "kernels/vision/subsample_pad.h"

#include "kernels/cuda.cuh"
#include "kernels/cuda/stretch.cuh"
#include "kernels/cuda/vector.cuh"

// Pure movement, a vector of 16 bytes per thread: what is written is written once, and of x or d_y
// only what lands somewhere is read, once.

namespace moat::kernels {

namespace {

constexpr int kThreads = 256;

template <class Args>
bool is_valid(const Args& a) {
  return a.n >= 0 && a.height > 0 && a.width > 0 && a.channels > 0 && a.stride > 0 &&
         a.front >= 0 && int64_t{a.front} + a.channels <= a.out_channels;
}

template <class Args>
constexpr int out_height(const Args& a) {
  return (a.height - 1) / a.stride + 1;
}
template <class Args>
constexpr int out_width(const Args& a) {
  return (a.width - 1) / a.stride + 1;
}

template <class T, int N>
__global__ void __launch_bounds__(kThreads) subsample_kernel(SubsamplePad a) {
  const int64_t vector = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int h = out_height(a), w = out_width(a), each = a.out_channels / N;
  const int64_t pixel = vector / each, row = pixel / w, image = row / h;
  if (image >= a.n) return;
  const int channel = static_cast<int>(vector - pixel * each) * N - a.front;
  Vector<T, N> moved{};
  if (channel >= 0 && channel < a.channels) {
    const int64_t i = (row - image * h) * a.stride, j = (pixel - row * w) * a.stride;
    moved = load<N>(static_cast<const T*>(a.x) +
                    ((image * a.height + i) * a.width + j) * a.channels + channel);
  }
  store(static_cast<T*>(a.y) + vector * N, moved);
}

template <class T, int N>
__global__ void __launch_bounds__(kThreads) subsample_grad_kernel(SubsamplePadGrad a) {
  const int64_t vector = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int each = a.channels / N;
  const int64_t pixel = vector / each, row = pixel / a.width, image = row / a.height;
  if (image >= a.n) return;
  const int channel = static_cast<int>(vector - pixel * each) * N,
            i = static_cast<int>(row - image * a.height),
            j = static_cast<int>(pixel - row * a.width), p = i / a.stride, q = j / a.stride;
  Vector<T, N> moved{};
  if (p * a.stride == i && q * a.stride == j) {
    const int64_t source = (image * out_height(a) + p) * out_width(a) + q;
    moved = load<N>(static_cast<const T*>(a.d_y) + source * a.out_channels + a.front + channel);
  }
  store(static_cast<T*>(a.d_x) + vector * N, moved);
}

// A multiple of a power of two where all three are.
template <class Args>
int64_t common_width(const Args& a) {
  return a.channels | a.front | a.out_channels;
}

Grid grid_of(int64_t vectors) { return {blocks_of(vectors, kThreads), dim3(kThreads)}; }

}  // namespace

Status subsample_pad(Cuda on, const SubsamplePad& a) {
  if (!is_valid(a)) return Status::bad_args;
  const int64_t pixels = int64_t{a.n} * out_height(a) * out_width(a);
  return with_float(a.dtype, [&]<class T>() {
    return with_vector<T>(common_width(a), {a.x, a.y}, [&]<int N>() {
      return launch(on, grid_of(pixels * (a.out_channels / N)), subsample_kernel<T, N>, a);
    });
  });
}

Status subsample_pad_grad(Cuda on, const SubsamplePadGrad& a) {
  if (!is_valid(a)) return Status::bad_args;
  const int64_t pixels = int64_t{a.n} * a.height * a.width;
  return with_float(a.dtype, [&]<class T>() {
    return with_vector<T>(common_width(a), {a.d_y, a.d_x}, [&]<int N>() {
      return launch(on, grid_of(pixels * (a.channels / N)), subsample_grad_kernel<T, N>, a);
    });
  });
}

}  // namespace moat::kernels
