#include "kernels/vision/batch_norm.h"

#include "kernels/cuda.cuh"
#include "kernels/cuda/stretch.cuh"
#include "kernels/vision/batch_norm/gradient.cuh"
#include "kernels/vision/batch_norm/tiles.cuh"

// Bytes, in values of the matrix: statistics read x; the normalising pass reads x and the residual
// and writes y, norm, addition and relu in one. Besides that two float64 per channel and block of
// rows. Between the passes stands a small launch that adds the blocks up in order.

namespace moat::kernels {

namespace batch_norm {

namespace {

// sums = [row_blocks, 2, channels]: mean, and sum of squared differences from it. A thread sums
// differences from its first value c in one pass over x: n (c - mean)^2 is at most n times the sum
// of squares that is wanted (c is one of its values), so cancellation costs at most the n <= 128.
template <class T, int N>
__global__ void __launch_bounds__(kThreads, 4) moments_kernel(const T* x, Tiling t, double* sums) {
  using C = compute_t<T>;
  __shared__ LaneValues<N> lanes;
  const Place<N> at(t, blockIdx.x);
  C center[N] = {}, sum[N] = {}, square[N] = {};
  if (at.row < at.end) {
    const Vector<T, N> v = load<N>(x + at.row * t.channels + at.channel);
#pragma unroll
    for (int n = 0; n < N; ++n) center[n] = C(v.values[n]);
  }
#pragma unroll 4
  for (int64_t row = at.row; row < at.end; row += at.lanes) {
    const Vector<T, N> v = load<N>(x + row * t.channels + at.channel);
#pragma unroll
    for (int n = 0; n < N; ++n) {
      const C d = C(v.values[n]) - center[n];
      sum[n] += d;
      square[n] += d * d;
    }
  }
  const double count = static_cast<double>(at.count() > 0 ? at.count() : 1);
#pragma unroll
  for (int n = 0; n < N; ++n) {
    const double offset = sum[n] / count;
    lanes.set(t, at, n, center[n] + offset, square[n] - sum[n] * offset);
  }
  __syncthreads();
  lanes.for_each_channel(t, at, [&](int channel, int index, int stride) {
    const int64_t rows = t.rows_of(at.row_block);
    const int64_t least = rows / t.lanes, with_more = rows % t.lanes;
    const auto count_of = [&](int lane) {
      return static_cast<double>(least + (lane < with_more ? 1 : 0));
    };
    double mean = 0, m2 = 0;
    for (int lane = 0; lane < t.lanes; ++lane)
      mean += count_of(lane) * lanes.first[index + lane * stride];
    mean /= static_cast<double>(rows);
    for (int lane = 0; lane < t.lanes; ++lane) {
      const double d = lanes.first[index + lane * stride] - mean;
      m2 += lanes.second[index + lane * stride] + count_of(lane) * d * d;
    }
    double* out = sums + at.row_block * 2 * t.channels + channel;
    out[0] = mean;
    out[t.channels] = m2;
  });
}

__device__ double inverse_deviation(double var, double epsilon) { return 1 / sqrt(var + epsilon); }

template <class C>
__device__ void set_coefficients(const Coefficients<C>& to, int j, C mean, C inv_std,
                                 const void* gamma, const void* beta) {
  to.center[j] = mean;
  to.factor[j] = value_or<C>(gamma, j, 1) * inv_std;
  to.shift[j] = value_or<C>(beta, j, 0);
}

// Mean and variance of all rows (Chan et al. 1979), and what follows from them per channel.
template <class C>
__global__ void __launch_bounds__(kThreads)
    statistics_kernel(BatchNormTrain a, Tiling t, const double* sums, Coefficients<C> to) {
  __shared__ BlockSums::Scratch scratch;
  const BlockSums total(t, scratch);
  const double* first = sums + total.channel;
  const int64_t stride = 2 * int64_t{t.channels};
  const auto rows = static_cast<double>(t.rows);
  const double mean = total.of([&](int64_t block) {
    return static_cast<double>(t.rows_of(block)) / rows * first[block * stride];
  });
  const double m2 = total.of([&](int64_t block) {
    const double d = first[block * stride] - mean;
    return first[block * stride + t.channels] + static_cast<double>(t.rows_of(block)) * d * d;
  });
  if (!total.writes()) return;
  const int j = total.channel;
  const C inv_std = static_cast<C>(inverse_deviation(m2 / rows, a.epsilon));
  static_cast<C*>(a.mean)[j] = static_cast<C>(mean);
  static_cast<C*>(a.inv_std)[j] = inv_std;
  const double keep = 1 - a.momentum;
  if (a.running_mean) {
    C& running = static_cast<C*>(a.running_mean)[j];
    running = static_cast<C>(keep * running + a.momentum * mean);
  }
  if (a.running_var) {
    C& running = static_cast<C*>(a.running_var)[j];
    running = static_cast<C>(keep * running + a.momentum * m2 / (rows - 1));
  }
  set_coefficients(to, j, static_cast<C>(mean), inv_std, a.gamma, a.beta);
}

template <class C>
__global__ void __launch_bounds__(kThreads)
    given_statistics_kernel(BatchNormEval a, Coefficients<C> to) {
  const int64_t index = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (index >= a.channels) return;
  const int j = static_cast<int>(index);
  const C inv_std = static_cast<C>(inverse_deviation(value_or<C>(a.var, j, 1), a.epsilon));
  static_cast<C*>(a.inv_std)[j] = inv_std;
  set_coefficients(to, j, value_or<C>(a.mean, j, 0), inv_std, a.gamma, a.beta);
}

template <class T>
struct Normalise {
  const T *x, *residual;
  T* y;
  NormActivation activation;
  Coefficients<compute_t<T>> by_channel;
};

// y = activation((x - center) factor + shift + residual)
template <class T, int N, bool kResidual>
__global__ void __launch_bounds__(kThreads, 3) normalise_kernel(Normalise<T> a, Tiling t) {
  using C = compute_t<T>;
  // From the end: what the statistics read last may still be in L2.
  const Place<N> at(t, gridDim.x - 1 - blockIdx.x);
  if (at.row >= at.end) return;
  C center[N], factor[N], shift[N];
  load_channels(a.by_channel.center + at.channel, center);
  load_channels(a.by_channel.factor + at.channel, factor);
  load_channels(a.by_channel.shift + at.channel, shift);
  const bool relu = a.activation == NormActivation::relu;
#pragma unroll 2
  for (int64_t row = at.row; row < at.end; row += at.lanes) {
    const int64_t index = row * t.channels + at.channel;
    Vector<T, N> v = load<N>(a.x + index), added{};
    if constexpr (kResidual) added = load<N>(a.residual + index);
#pragma unroll
    for (int n = 0; n < N; ++n) {
      C y = (C(v.values[n]) - center[n]) * factor[n] + shift[n];
      if constexpr (kResidual) y += C(added.values[n]);
      v.values[n] = T(relu && y <= 0 ? C(0) : y);
    }
    store(a.y + index, v);
  }
}

template <class T, int N, class Args>
Status normalise(Cuda on, const Args& a, const Coefficients<compute_t<T>>& by_channel) {
  const Normalise<T> args{.x = static_cast<const T*>(a.x),
                          .residual = static_cast<const T*>(a.residual),
                          .y = static_cast<T*>(a.y),
                          .activation = a.activation,
                          .by_channel = by_channel};
  const Tiling t = pass_tiling(a.rows, a.channels, N);
  return launch(on, t.grid(),
                a.residual ? normalise_kernel<T, N, true> : normalise_kernel<T, N, false>, args, t);
}

template <class T, int N>
Status train(Cuda on, const BatchNormTrain& a) {
  using C = compute_t<T>;
  const Tiling t = sums_tiling(a.rows, a.channels, N);
  const Workspace workspace(on, t);
  const auto coefficients = workspace.coefficients<C>();
  Status status =
      launch(on, t.grid(), moments_kernel<T, N>, static_cast<const T*>(a.x), t, workspace.sums);
  if (status != Status::ok) return status;
  status = launch(on, BlockSums::grid(a.channels), statistics_kernel<C>, a, t, workspace.sums,
                  coefficients);
  return status == Status::ok ? normalise<T, N>(on, a, coefficients) : status;
}

template <class T, int N>
Status eval(Cuda on, const BatchNormEval& a) {
  using C = compute_t<T>;
  const auto coefficients = Workspace(on, pass_tiling(0, a.channels, N)).template coefficients<C>();
  const Status status = launch(on, {blocks_of(a.channels, kThreads), dim3(kThreads)},
                               given_statistics_kernel<C>, a, coefficients);
  return status == Status::ok ? normalise<T, N>(on, a, coefficients) : status;
}

constexpr int kFoldWarps = 8;           // per block
constexpr int64_t kFoldStretch = 1024;  // elements of a filter that a warp takes

// A filter is read and written once; the product is rounded once.
template <class T, int N>
__global__ void __launch_bounds__(kFoldWarps* kWarp) fold_kernel(BatchNormFold a) {
  const Stretch s = warp_stretch(a.filter_size, kFoldStretch);
  if (s.row >= a.channels) return;
  const int j = static_cast<int>(s.row);
  const double factor =
      value_or<T>(a.gamma, j, 1) * inverse_deviation(value_or<T>(a.var, j, 1), a.epsilon);
  if (s.first == 0 && lane_index() == 0)
    static_cast<T*>(a.bias)[j] =
        static_cast<T>(value_or<T>(a.beta, j, 0) - value_or<T>(a.mean, j, 0) * factor);
  const T* filter = static_cast<const T*>(a.filter) + s.row * a.filter_size;
  T* folded = static_cast<T*>(a.folded) + s.row * a.filter_size;
  for (int64_t i = s.first + lane_index() * N; i < s.last; i += kWarp * N) {
    Vector<T, N> v = load<N>(filter + i);
#pragma unroll
    for (T& value : v.values) value = static_cast<T>(value * factor);
    store(folded + i, v);
  }
}

}  // namespace

}  // namespace batch_norm

size_t batch_norm_train_workspace(Cuda, const BatchNormTrain& a) {
  return a.channels > 0 && a.rows > 0 ? batch_norm::sums_workspace(a.rows, a.channels, a.dtype) : 0;
}

Status batch_norm_train(Cuda on, const BatchNormTrain& a) {
  if (a.rows < 2 || a.channels < 1) return Status::bad_args;
  if (on.workspace_bytes < batch_norm_train_workspace(on, a)) return Status::small_workspace;
  return with_float(a.dtype, [&]<class T>() {
    return with_vector<T>(a.channels, {a.x, a.residual, a.y},
                          [&]<int N>() { return batch_norm::train<T, N>(on, a); });
  });
}

size_t batch_norm_eval_workspace(Cuda, const BatchNormEval& a) {
  return a.channels > 0 ? batch_norm::sums_workspace(0, a.channels, a.dtype) : 0;
}

Status batch_norm_eval(Cuda on, const BatchNormEval& a) {
  if (a.rows < 0 || a.channels < 1) return Status::bad_args;
  if (on.workspace_bytes < batch_norm_eval_workspace(on, a)) return Status::small_workspace;
  return with_float(a.dtype, [&]<class T>() {
    return with_vector<T>(a.channels, {a.x, a.residual, a.y},
                          [&]<int N>() { return batch_norm::eval<T, N>(on, a); });
  });
}

size_t batch_norm_grad_workspace(Cuda, const BatchNormGrad& a) {
  return a.channels > 0 && a.rows >= 0 ? batch_norm::sums_workspace(a.rows, a.channels, a.dtype)
                                       : 0;
}

Status batch_norm_grad(Cuda on, const BatchNormGrad& a) {
  if (a.rows < 0 || a.channels < 1) return Status::bad_args;
  const bool batch = a.statistics == NormStatistics::batch;
  if ((batch || a.d_gamma || a.d_beta) && !a.x && a.rows > 0) return Status::bad_args;
  if (on.workspace_bytes < batch_norm_grad_workspace(on, a)) return Status::small_workspace;
  return with_float(a.dtype, [&]<class T>() {
    return with_vector<T>(a.channels, {a.d, a.x},
                          [&]<int N>() { return batch_norm::gradient<T, N>(on, a); });
  });
}

Status batch_norm_fold(Cuda on, const BatchNormFold& a) {
  if (a.channels < 0 || a.filter_size < 0) return Status::bad_args;
  const auto fold = [&]<class T>() {
    return with_vector<T>(a.filter_size, {a.filter, a.folded}, [&]<int N>() {
      return launch(
          on,
          stretch_grid(a.channels, a.filter_size, batch_norm::kFoldStretch, batch_norm::kFoldWarps),
          batch_norm::fold_kernel<T, N>, a);
    });
  };
  if (a.dtype == Dtype::f64) return fold.template operator()<double>();
  return a.dtype == Dtype::f32 ? fold.template operator()<float>() : Status::unsupported;
}

}  // namespace moat::kernels
