#include "kernels/vision/layer_norm.h"

#include "kernels/ceil_div.h"
#include "kernels/cuda.cuh"
#include "kernels/cuda/row_threads.cuh"
#include "kernels/cuda/vector.cuh"
#include "kernels/vision/batch_norm/tiles.cuh"

// Bytes, in values of the matrix: the forward pass reads x and writes y, d_x reads d_y and x and
// writes d_x, and reads what is added; a row's later passes find it in registers, a long one's in
// L1. d_gamma and d_beta are a pass of their own down the columns that reads d_y and x again, so
// that an attack, which wants d_x alone, pays nothing.
//
// Threads take vectors of columns wherever the width allows it, and load them value by value from
// an address that does not: the order of a sum depends on the width alone.

namespace moat::kernels {

namespace layer_norm_cuda {

namespace {

// Vectors that a thread keeps of a row. Rows of up to 8, 16 or 32 threads' vectors have as many
// threads, which leaves few of them idle; longer ones have a block, which reads them anew.
constexpr int kHeld = 4;
template <int Threads>
inline constexpr bool kHolds = Threads <= kWarp;

// f(h, i): vector h of this thread's begins at column i.
template <int N, int Threads, class F>
__device__ void for_each_vector(const RowThreads<Threads>& mine, int width, F&& f) {
  const auto column = [&](int h) { return (h * Threads + mine.thread) * N; };
  if constexpr (kHolds<Threads>) {
#pragma unroll
    for (int h = 0; h < kHeld; ++h)
      if (column(h) < width) f(h, column(h));
  } else {
    for (int h = 0; column(h) < width; ++h) f(h, column(h));
  }
}

// A row of the matrix.
template <class T, int N, int Threads>
class Row {
 public:
  __device__ Row(const void* matrix, int64_t row, int width)
      : row_(static_cast<const T*>(matrix) + row * width) {}

  // On the first pass over the row, and on later ones.
  __device__ Vector<T, N> read(int h, int i) {
    const Vector<T, N> v = load_anywhere<N>(row_ + i);
    if constexpr (kHolds<Threads>) held_[h] = v;
    return v;
  }
  __device__ Vector<T, N> again(int h, int i) const {
    if constexpr (kHolds<Threads>) return held_[h];
    return load_anywhere<N>(row_ + i);
  }

 private:
  const T* row_;
  Vector<T, N> held_[kHolds<Threads> ? kHeld : 1];
};

// to = from[0 .. N), at any address.
template <int N, class C>
__device__ void load_columns(const C* from, C (&to)[N]) {
  constexpr int kWidth = N == 1 ? 1 : kVectorSize<C>;
#pragma unroll
  for (int n = 0; n < N; n += kWidth) {
    const Vector<C, kWidth> v = load_anywhere<kWidth>(from + n);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) to[n + i] = v.values[i];
  }
}

template <class C, int Threads>
__device__ double row_sum(const RowThreads<Threads>& mine, C value) {
  return mine.reduce(double{value}, Sum());
}

// 1 / sqrt(var + epsilon) of what may have become negative by rounding.
template <class C>
__device__ C inverse_deviation(double var, double epsilon) {
  return 1 / sqrt(static_cast<C>((var < 0 ? 0 : var) + epsilon));
}

template <class T, int N, int Threads>
__global__ void __launch_bounds__(kRowBlock) forward_kernel(LayerNorm a) {
  using C = compute_t<T>;
  const RowThreads<Threads> mine;
  const bool present = mine.row < a.rows;
  const int64_t row = present ? mine.row : a.rows - 1;
  const double share = 1.0 / a.width;  // a division in float64 is long: while x is under way
  Row<T, N, Threads> x(a.x, row, a.width);
  T* y = static_cast<T*>(a.y) + row * a.width;
  const auto *gamma = static_cast<const C*>(a.gamma), *beta = static_cast<const C*>(a.beta);

  C sum = 0;
  for_each_vector<N>(mine, a.width, [&](int h, int i) {
    const Vector<T, N> v = x.read(h, i);
#pragma unroll
    for (int n = 0; n < N; ++n) sum += C(v.values[n]);
  });
  const C mean = static_cast<C>(row_sum(mine, sum) * share);
  C rest = 0, square = 0;  // the rest undoes the rounding of the mean
  for_each_vector<N>(mine, a.width, [&](int h, int i) {
    const Vector<T, N> v = x.again(h, i);
#pragma unroll
    for (int n = 0; n < N; ++n) {
      const C d = C(v.values[n]) - mean;
      rest += d;
      square += d * d;
    }
  });
  const double offset = row_sum(mine, rest) * share,
               var = row_sum(mine, square) * share - offset * offset;
  const C inv_std = inverse_deviation<C>(var, a.epsilon);
  if (!present) return;
  if (mine.thread == 0) {
    static_cast<C*>(a.mean)[row] = mean;
    static_cast<C*>(a.inv_std)[row] = inv_std;
  }
  for_each_vector<N>(mine, a.width, [&](int h, int i) {
    Vector<T, N> v = x.again(h, i);
    C factor[N], shift[N];
    if (gamma) load_columns(gamma + i, factor);
    if (gamma) load_columns(beta + i, shift);
#pragma unroll
    for (int n = 0; n < N; ++n) {
      const C value = (C(v.values[n]) - mean) * inv_std;
      v.values[n] = T(gamma ? value * factor[n] + shift[n] : value);
    }
    store_anywhere(y + i, v);
  });
}

// d_x = inv_std (g - shift - (x - mean) slope) + added
template <class T, int N, int Threads>
__global__ void __launch_bounds__(kRowBlock) input_gradient_kernel(LayerNormGrad a) {
  using C = compute_t<T>;
  const RowThreads<Threads> mine;
  const bool present = mine.row < a.rows;
  const int64_t row = present ? mine.row : a.rows - 1;
  Row<T, N, Threads> x(a.x, row, a.width), d_y(a.d_y, row, a.width);
  const T* added = a.added ? static_cast<const T*>(a.added) + row * a.width : nullptr;
  T* d_x = static_cast<T*>(a.d_x) + row * a.width;
  const auto* gamma = static_cast<const C*>(a.gamma);
  const C mean = static_cast<const C*>(a.mean)[row],
          inv_std = static_cast<const C*>(a.inv_std)[row];
  const double share = 1.0 / a.width;
  // f(n, g, x - mean) for the N columns from i on
  const auto for_each_value = [&](const Vector<T, N>& d, const Vector<T, N>& v, int i, auto&& f) {
    C factor[N];
    if (gamma) load_columns(gamma + i, factor);
#pragma unroll
    for (int n = 0; n < N; ++n) {
      const C g = C(d.values[n]);
      f(n, gamma ? factor[n] * g : g, C(v.values[n]) - mean);
    }
  };
  C sum = 0, product = 0;
  for_each_vector<N>(mine, a.width, [&](int h, int i) {
    for_each_value(d_y.read(h, i), x.read(h, i), i, [&](int, C g, C distance) {
      sum += g;
      product += g * distance;
    });
  });
  const C shift = static_cast<C>(row_sum(mine, sum) * share),
          slope = static_cast<C>(row_sum(mine, product) * share * inv_std * inv_std);
  if (!present) return;
  for_each_vector<N>(mine, a.width, [&](int h, int i) {
    Vector<T, N> out, more{};
    if (added) more = load_anywhere<N>(added + i);
    for_each_value(d_y.again(h, i), x.again(h, i), i, [&](int n, C g, C distance) {
      out.values[n] = T(inv_std * (g - shift - distance * slope) + C(more.values[n]));
    });
    store_anywhere(d_x + i, out);
  });
}

// sums = [row_blocks, 2, width]: of d_y and of d_y x^.
template <class T, int N>
__global__ void __launch_bounds__(batch_norm::kThreads, 3)
    column_sums_kernel(LayerNormGrad a, batch_norm::Tiling t, double* sums) {
  using C = compute_t<T>;
  __shared__ batch_norm::LaneValues<N> lanes;
  const batch_norm::Place<N> at(t, blockIdx.x);
  const auto *mean = static_cast<const C*>(a.mean), *inv_std = static_cast<const C*>(a.inv_std);
  C sum[N] = {}, product[N] = {};
#pragma unroll 2
  for (int64_t row = at.row; row < at.end; row += at.lanes) {
    const int64_t index = row * a.width + at.channel;
    const Vector<T, N> d = load_anywhere<N>(static_cast<const T*>(a.d_y) + index);
    Vector<T, N> x{};
    if (a.d_gamma) x = load_anywhere<N>(static_cast<const T*>(a.x) + index);
#pragma unroll
    for (int n = 0; n < N; ++n) {
      sum[n] += C(d.values[n]);
      if (a.d_gamma) product[n] += C(d.values[n]) * ((C(x.values[n]) - mean[row]) * inv_std[row]);
    }
  }
#pragma unroll
  for (int n = 0; n < N; ++n) lanes.set(t, at, n, double{sum[n]}, double{product[n]});
  __syncthreads();
  lanes.for_each_channel(t, at, [&](int column, int index, int stride) {
    double d = 0, d_x_hat = 0;
    for (int lane = 0; lane < t.lanes; ++lane, index += stride) {
      d += lanes.first[index];
      d_x_hat += lanes.second[index];
    }
    double* out = sums + at.row_block * 2 * a.width + column;
    out[0] = d;
    out[a.width] = d_x_hat;
  });
}

template <class C>
__global__ void __launch_bounds__(batch_norm::kThreads)
    column_totals_kernel(LayerNormGrad a, batch_norm::Tiling t, const double* sums) {
  __shared__ batch_norm::BlockSums::Scratch scratch;
  const batch_norm::BlockSums total(t, scratch);
  const double* first = sums + total.channel;
  const int64_t stride = 2 * int64_t{a.width};
  const double d = total.of([&](int64_t block) { return first[block * stride]; }),
               d_x_hat = total.of([&](int64_t block) { return first[block * stride + a.width]; });
  if (!total.writes()) return;
  if (a.d_beta) static_cast<C*>(a.d_beta)[total.channel] = static_cast<C>(d);
  if (a.d_gamma) static_cast<C*>(a.d_gamma)[total.channel] = static_cast<C>(d_x_hat);
}

// f.operator()<N>() with the vectors of rows of this width.
template <class T, class F>
auto with_row_vector(int width, F&& f) {
  return width % kVectorSize<T> == 0 ? f.template operator()<kVectorSize<T>>()
                                     : f.template operator()<1>();
}

// f.operator()<N, Threads>() with the vectors and threads of rows of this width.
template <class T, class F>
Status with_row(int width, F&& f) {
  return with_row_vector<T>(width, [&]<int N>() {
    const int64_t threads = ceil_div(width, kHeld * N);  // that would hold a row
    if (threads <= 8) return f.template operator()<N, 8>();
    if (threads <= 16) return f.template operator()<N, 16>();
    return threads <= kWarp ? f.template operator()<N, kWarp>()
                            : f.template operator()<N, kRowBlock>();
  });
}

template <class T, int N>
Status column_gradients(Cuda on, const LayerNormGrad& a) {
  const batch_norm::Tiling t = batch_norm::sums_tiling(a.rows, a.width, N);
  auto* sums = static_cast<double*>(on.workspace);
  const Status status = launch(on, t.grid(), column_sums_kernel<T, N>, a, t, sums);
  if (status != Status::ok) return status;
  return launch(on, batch_norm::BlockSums::grid(a.width), column_totals_kernel<compute_t<T>>, a, t,
                sums);
}

bool is_valid(const void* gamma, const void* beta, int rows, int width) {
  return rows >= 0 && width >= 1 && (gamma == nullptr) == (beta == nullptr);
}

}  // namespace

}  // namespace layer_norm_cuda

Status layer_norm(Cuda on, const LayerNorm& a) {
  if (!layer_norm_cuda::is_valid(a.gamma, a.beta, a.rows, a.width)) return Status::bad_args;
  return with_float(a.dtype, [&]<class T>() {
    return layer_norm_cuda::with_row<T>(a.width, [&]<int N, int Threads>() {
      return launch(on, row_grid<Threads>(a.rows), layer_norm_cuda::forward_kernel<T, N, Threads>,
                    a);
    });
  });
}

size_t layer_norm_grad_workspace(Cuda, const LayerNormGrad& a) {
  size_t bytes = 0;
  if (a.rows < 0 || a.width < 1 || (!a.d_gamma && !a.d_beta)) return bytes;
  with_float(a.dtype, [&]<class T>() {
    const int64_t blocks = layer_norm_cuda::with_row_vector<T>(
        a.width, [&]<int N>() { return batch_norm::sums_tiling(a.rows, a.width, N).row_blocks; });
    bytes = static_cast<size_t>(2 * blocks * a.width) * sizeof(double);
    return Status::ok;
  });
  return bytes;
}

Status layer_norm_grad(Cuda on, const LayerNormGrad& a) {
  if (!layer_norm_cuda::is_valid(nullptr, nullptr, a.rows, a.width)) return Status::bad_args;
  if (on.workspace_bytes < layer_norm_grad_workspace(on, a)) return Status::small_workspace;
  return with_float(a.dtype, [&]<class T>() {
    Status status = Status::ok;
    if (a.d_x)
      status = layer_norm_cuda::with_row<T>(a.width, [&]<int N, int Threads>() {
        return launch(on, row_grid<Threads>(a.rows),
                      layer_norm_cuda::input_gradient_kernel<T, N, Threads>, a);
      });
    if (status != Status::ok || (!a.d_gamma && !a.d_beta)) return status;
    return layer_norm_cuda::with_row_vector<T>(
        a.width, [&]<int N>() { return layer_norm_cuda::column_gradients<T, N>(on, a); });
  });
}

}  // namespace moat::kernels
