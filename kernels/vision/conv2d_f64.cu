#include "kernels/vision/conv2d_f64.h"

#include "kernels/cuda.cuh"
#include "kernels/cuda/stretch.cuh"
#include "kernels/vision/conv2d_finish.h"

namespace moat::kernels::f64 {

namespace {

constexpr int kThreads = 256;

// The values of an [n, rows, columns, channels] array by their place in it.
struct Place {
  int64_t image;
  int row, column, channel;

  __device__ Place(int64_t at, int rows, int columns, int channels) {
    channel = static_cast<int>(at % channels);
    column = static_cast<int>(at / channels % columns);
    row = static_cast<int>(at / channels / columns % rows);
    image = at / channels / columns / rows;
  }
};

__device__ int64_t thread_number() { return int64_t{blockIdx.x} * kThreads + threadIdx.x; }

__global__ void __launch_bounds__(kThreads) forward_kernel(Conv2d a) {
  const Conv2dGeometry& g = a.geometry;
  const int64_t at = thread_number();
  if (at >= a.n * g.y_size()) return;
  const Place y(at, g.out_height(), g.out_width(), g.c_out);
  const auto* x = static_cast<const double*>(a.x) + y.image * g.x_size();
  const auto* filter =
      static_cast<const double*>(a.filter) + int64_t{y.channel} * g.r * g.s * g.c_in;
  double sum = 0;
  for (int u = 0; u < g.r; ++u)
    for (int v = 0; v < g.s; ++v) {
      const int i = y.row * g.stride + u - g.padding, j = y.column * g.stride + v - g.padding;
      if (i < 0 || i >= g.height || j < 0 || j >= g.width) continue;
      const double* pixel = x + (int64_t{i} * g.width + j) * g.c_in;
      const double* tap = filter + (int64_t{u} * g.s + v) * g.c_in;
      for (int c = 0; c < g.c_in; ++c) sum += pixel[c] * tap[c];
    }
  if (a.bias) sum += static_cast<const double*>(a.bias)[y.channel];
  if (a.residual) sum += static_cast<const double*>(a.residual)[at];
  static_cast<double*>(a.y)[at] = a.activation == ConvActivation::relu && !(sum > 0) ? 0.0 : sum;
}

// The output pixels (p, q) that pixel (i, j) of x goes into are those with p·stride + u - padding
// = i for a tap (u, v).
__global__ void __launch_bounds__(kThreads) input_grad_kernel(Conv2dInputGrad a) {
  const Conv2dGeometry& g = a.geometry;
  const int64_t at = thread_number();
  if (at >= a.n * g.x_size()) return;
  const Place x(at, g.height, g.width, g.c_in);
  const auto* d_y = static_cast<const double*>(a.d_y) + x.image * g.y_size();
  const auto* filter = static_cast<const double*>(a.filter) + x.channel;
  double sum = 0;
  for (int u = 0; u < g.r; ++u)
    for (int v = 0; v < g.s; ++v) {
      const int down = x.row + g.padding - u, right = x.column + g.padding - v;
      const int p = down / g.stride, q = right / g.stride;
      if (down < 0 || right < 0 || down % g.stride != 0 || right % g.stride != 0 ||
          p >= g.out_height() || q >= g.out_width())
        continue;
      const double* pixel = d_y + (int64_t{p} * g.out_width() + q) * g.c_out;
      for (int o = 0; o < g.c_out; ++o)
        sum += pixel[o] * filter[((int64_t{o} * g.r + u) * g.s + v) * g.c_in];
    }
  if (a.added) sum += static_cast<const double*>(a.added)[at];
  if (a.mask) sum = behind_relu(sum, static_cast<const double*>(a.mask)[at]);
  static_cast<double*>(a.d_x)[at] = sum;
}

__global__ void __launch_bounds__(kThreads) weight_grad_kernel(Conv2dWeightGrad a) {
  const Conv2dGeometry& g = a.geometry;
  const int64_t at = thread_number();
  if (at >= g.filter_size()) return;
  const Place filter(at, g.r, g.s, g.c_in);  // its image is the output channel
  const auto* x = static_cast<const double*>(a.x) + filter.channel;
  const auto* d_y = static_cast<const double*>(a.d_y) + filter.image;
  double sum = 0;
  for (int64_t image = 0; image < a.n; ++image)
    for (int p = 0; p < g.out_height(); ++p)
      for (int q = 0; q < g.out_width(); ++q) {
        const int i = p * g.stride + filter.row - g.padding,
                  j = q * g.stride + filter.column - g.padding;
        if (i < 0 || i >= g.height || j < 0 || j >= g.width) continue;
        sum += x[image * g.x_size() + (int64_t{i} * g.width + j) * g.c_in] *
               d_y[image * g.y_size() + (int64_t{p} * g.out_width() + q) * g.c_out];
      }
  static_cast<double*>(a.d_filter)[at] = sum;
}

Grid grid_of(int64_t values) { return {blocks_of(values, kThreads), dim3(kThreads)}; }

}  // namespace

Status run(Cuda on, const Conv2d& a) {
  return launch(on, grid_of(a.n * a.geometry.y_size()), forward_kernel, a);
}

Status run(Cuda on, const Conv2dInputGrad& a) {
  return launch(on, grid_of(a.n * a.geometry.x_size()), input_grad_kernel, a);
}

Status run(Cuda on, const Conv2dWeightGrad& a) {
  return launch(on, grid_of(a.geometry.filter_size()), weight_grad_kernel, a);
}

}  // namespace moat::kernels::f64
