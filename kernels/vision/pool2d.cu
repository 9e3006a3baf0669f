#include "kernels/vision/pool2d.h"

#include "kernels/cuda.cuh"
#include "kernels/cuda/stretch.cuh"
#include "kernels/cuda/vector.cuh"
#include "kernels/vision/pool_windows.h"

// A thread owns a vector of 16 bytes of the channels of a pixel, neighbouring threads neighbouring
// vectors, so that every access is coalesced: outputs are written once, inputs come from memory
// once and from the cache for every further window. Gradients are gathered: a pixel of the input
// adds the windows that see it in row order, as on the CPU.

namespace moat::kernels {

namespace {

constexpr int kThreads = 256;
constexpr int kLanes = 8;        // that share an average over
constexpr int kManyPixels = 32;  // of a window, from where they do

// Images as vectors of N channels.
struct Images {
  int n, height, width, channels;

  template <int N>
  constexpr int64_t vectors() const {
    return int64_t{n} * height * width * (channels / N);
  }
  __device__ int64_t at(int64_t image, int i, int j, int channel) const {
    return ((image * height + i) * width + j) * channels + channel;
  }
};
constexpr Images inputs(const PoolGeometry& g) { return {g.n, g.height, g.width, g.channels}; }
constexpr Images outputs(const PoolGeometry& g) {
  return {g.n, g.out_height(), g.out_width(), g.channels};
}

// Where a vector of the images is.
template <int N>
struct Place {
  int64_t image;
  int i, j, channel;

  __device__ Place(const Images& in, int64_t vector) {
    const int each = in.channels / N;
    int64_t pixel = vector / each;
    channel = static_cast<int>(vector - pixel * each) * N;
    const int64_t row = pixel / in.width;
    j = static_cast<int>(pixel - row * in.width);
    image = row / in.height;
    i = static_cast<int>(row - image * in.height);
  }
};

template <int N>
__device__ void store_winners(int32_t* to, const int32_t (&winners)[N]) {
  if constexpr (N % 4 == 0) {
#pragma unroll
    for (int n = 0; n < N; n += 4)
      store(to + n, Vector<int32_t, 4>{winners[n], winners[n + 1], winners[n + 2], winners[n + 3]});
  } else {
    for (int n = 0; n < N; ++n) to[n] = winners[n];
  }
}

template <class T, int N>
__global__ void __launch_bounds__(kThreads) max_kernel(MaxPool2d a) {
  using C = compute_t<T>;
  const PoolGeometry& g = a.geometry;
  const Images in = inputs(g), out = outputs(g);
  const int64_t vector = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (vector >= out.vectors<N>()) return;
  const Place<N> at(out, vector);
  const PoolRange rows = seen_by(at.i, g.window_height, g.stride, g.padding, g.height),
                  columns = seen_by(at.j, g.window_width, g.stride, g.padding, g.width);
  const T* x = static_cast<const T*>(a.x);
  C best[N] = {};
  int32_t winners[N] = {};
  for (int i = rows.from; i < rows.to; ++i)
    for (int j = columns.from; j < columns.to; ++j) {
      const bool is_first = i == rows.from && j == columns.from;
      const Vector<T, N> pixel = load<N>(x + in.at(at.image, i, j, at.channel));
#pragma unroll
      for (int n = 0; n < N; ++n) {
        const C value = static_cast<C>(pixel.values[n]);
        const bool wins = is_first || value > best[n] || (value != value && best[n] == best[n]);
        if (!wins) continue;
        best[n] = value;
        winners[n] = i * g.width + j;
      }
    }
  Vector<T, N> y;
#pragma unroll
  for (int n = 0; n < N; ++n) y.values[n] = T(best[n]);
  store(static_cast<T*>(a.y) + vector * N, y);
  if (a.winners) store_winners(a.winners + vector * N, winners);
}

// A vector of d_x: term(where the window's vector is, this pixel, sums) adds what each window that
// sees it gives, in row order.
template <class T, int N, class Term>
__device__ void gather_windows(const PoolGeometry& g, void* d_x, Term&& term) {
  using C = compute_t<T>;
  const Images in = inputs(g), out = outputs(g);
  const int64_t vector = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (vector >= in.vectors<N>()) return;
  const Place<N> at(in, vector);
  const PoolRange rows = that_see(at.i, g.window_height, g.stride, g.padding, out.height),
                  columns = that_see(at.j, g.window_width, g.stride, g.padding, out.width);
  C sums[N] = {};
  for (int p = rows.from; p < rows.to; ++p)
    for (int q = columns.from; q < columns.to; ++q)
      term(out.at(at.image, p, q, at.channel), at.i * g.width + at.j, sums);
  Vector<T, N> sum;
#pragma unroll
  for (int n = 0; n < N; ++n) sum.values[n] = T(sums[n]);
  store(static_cast<T*>(d_x) + vector * N, sum);
}

template <class T, int N>
__global__ void __launch_bounds__(kThreads, 4) max_grad_kernel(MaxPool2dGrad a) {
  using C = compute_t<T>;
  gather_windows<T, N>(a.geometry, a.d_x, [&](int64_t window, int pixel, C(&sums)[N]) {
    const Vector<T, N> d = load<N>(static_cast<const T*>(a.d_y) + window);
#pragma unroll
    for (int n = 0; n < N; ++n)
      if (a.winners[window + n] == pixel) sums[n] += static_cast<C>(d.values[n]);
  });
}

// Lanes threads of a block share a window's pixels, and their sums are added in order. Neighbouring
// threads have neighbouring vectors of y.
template <class T, int N, int Lanes>
__global__ void __launch_bounds__(kThreads) avg_kernel(AvgPool2d a) {
  using C = compute_t<T>;
  constexpr int kVectors = kThreads / Lanes;
  const PoolGeometry& g = a.geometry;
  const Images in = inputs(g), out = outputs(g);
  const int lane = static_cast<int>(threadIdx.x) / kVectors,
            mine = static_cast<int>(threadIdx.x) % kVectors;
  const int64_t vector = int64_t{blockIdx.x} * kVectors + mine;
  const bool is_any = vector < out.vectors<N>();
  const int area = g.window_height * g.window_width;
  C sums[N] = {};
  if (is_any) {
    const Place<N> at(out, vector);
    const T* x =
        static_cast<const T*>(a.x) + in.at(at.image, at.i * g.stride, at.j * g.stride, at.channel);
#pragma unroll 4
    for (int k = lane; k < area; k += Lanes) {
      const int i = k / g.window_width, j = k - i * g.window_width;
      const Vector<T, N> pixel = load<N>(x + in.at(0, i, j, 0));
#pragma unroll
      for (int n = 0; n < N; ++n) sums[n] += static_cast<C>(pixel.values[n]);
    }
  }
  if constexpr (Lanes > 1) {
    __shared__ C shared[N][kThreads];
#pragma unroll
    for (int n = 0; n < N; ++n) shared[n][threadIdx.x] = sums[n];
    __syncthreads();
    if (lane != 0) return;
    for (int other = 1; other < Lanes; ++other)
#pragma unroll
      for (int n = 0; n < N; ++n) sums[n] += shared[n][other * kVectors + mine];
  }
  if (!is_any) return;
  Vector<T, N> y;
#pragma unroll
  for (int n = 0; n < N; ++n) y.values[n] = T(sums[n] / static_cast<C>(area));
  store(static_cast<T*>(a.y) + vector * N, y);
}

template <class T, int N>
__global__ void __launch_bounds__(kThreads) avg_grad_kernel(AvgPool2dGrad a) {
  using C = compute_t<T>;
  const C area = static_cast<C>(a.geometry.window_height * a.geometry.window_width);
  gather_windows<T, N>(a.geometry, a.d_x, [&](int64_t window, int, C(&sums)[N]) {
    const Vector<T, N> d = load<N>(static_cast<const T*>(a.d_y) + window);
#pragma unroll
    for (int n = 0; n < N; ++n) sums[n] += static_cast<C>(d.values[n]) / area;
  });
}

// A thread per vector of the images.
template <int N>
Grid grid_of(const Images& images) {
  return {blocks_of(images.vectors<N>(), kThreads), dim3(kThreads)};
}

}  // namespace

Status max_pool2d(Cuda on, const MaxPool2d& a) {
  const PoolGeometry& g = a.geometry;
  if (!is_valid_pool(g)) return Status::bad_args;
  return with_float(a.dtype, [&]<class T>() {
    return with_vector<T>(g.channels, {a.x, a.y, a.winners}, [&]<int N>() {
      return launch(on, grid_of<N>(outputs(g)), max_kernel<T, N>, a);
    });
  });
}

Status max_pool2d_grad(Cuda on, const MaxPool2dGrad& a) {
  const PoolGeometry& g = a.geometry;
  if (!is_valid_pool(g) || (g.n > 0 && !a.winners)) return Status::bad_args;
  return with_float(a.dtype, [&]<class T>() {
    return with_vector<T>(g.channels, {a.d_y, a.d_x}, [&]<int N>() {
      return launch(on, grid_of<N>(inputs(g)), max_grad_kernel<T, N>, a);
    });
  });
}

Status avg_pool2d(Cuda on, const AvgPool2d& a) {
  const PoolGeometry& g = a.geometry;
  if (!is_valid_pool(g) || g.padding != 0) return Status::bad_args;
  return with_float(a.dtype, [&]<class T>() {
    return with_vector<T>(g.channels, {a.x, a.y}, [&]<int N>() {
      const bool is_shared = int64_t{g.window_height} * g.window_width >= kManyPixels;
      const int64_t each = is_shared ? kThreads / kLanes : kThreads;
      const Grid grid{blocks_of(outputs(g).vectors<N>(), each), dim3(kThreads)};
      return launch(on, grid, is_shared ? avg_kernel<T, N, kLanes> : avg_kernel<T, N, 1>, a);
    });
  });
}

Status avg_pool2d_grad(Cuda on, const AvgPool2dGrad& a) {
  const PoolGeometry& g = a.geometry;
  if (!is_valid_pool(g) || g.padding != 0) return Status::bad_args;
  return with_float(a.dtype, [&]<class T>() {
    return with_vector<T>(g.channels, {a.d_y, a.d_x}, [&]<int N>() {
      return launch(on, grid_of<N>(inputs(g)), avg_grad_kernel<T, N>, a);
    });
  });
}

}  // namespace moat::kernels
