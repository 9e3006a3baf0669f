#pragma once

// Bytes, in values of the matrix: the sums read d and x; with constant statistics they write d_x,
// too, and that is all. With statistics of the batch a second pass reads d and x and writes d_x.

#include <cmath>

#include "kernels/vision/batch_norm.h"
#include "kernels/vision/batch_norm/tiles.cuh"

namespace moat::kernels::batch_norm {

template <class C, int N>
__device__ void load_factor(const BatchNormGrad& a, int channel, C (&factor)[N]) {
#pragma unroll
  for (int n = 0; n < N; ++n)
    factor[n] =
        value_or<C>(a.gamma, channel + n, 1) * static_cast<const C*>(a.inv_std)[channel + n];
}

// A row's gradient by constant statistics.
template <class T, int N>
__device__ Vector<T, N> scaled(const Vector<T, N>& d, const compute_t<T> (&factor)[N]) {
  Vector<T, N> out;
#pragma unroll
  for (int n = 0; n < N; ++n) out.values[n] = T(factor[n] * compute_t<T>(d.values[n]));
  return out;
}

// sums = [row_blocks, 2, channels]: of d and of d (x - mean).
template <class T, int N>
__global__ void __launch_bounds__(kThreads, 3)
    gradient_sums_kernel(BatchNormGrad a, Tiling t, double* sums) {
  using C = compute_t<T>;
  __shared__ LaneValues<N> lanes;
  const Place<N> at(t, blockIdx.x);
  T* d_x = a.statistics == NormStatistics::constant ? static_cast<T*>(a.d_x) : nullptr;
  C center[N] = {}, factor[N] = {}, sum[N] = {}, product[N] = {};
  if (at.row < at.end) {
#pragma unroll
    for (int n = 0; n < N; ++n) center[n] = static_cast<const C*>(a.mean)[at.channel + n];
    if (d_x) load_factor(a, at.channel, factor);
  }
#pragma unroll 2
  for (int64_t row = at.row; row < at.end; row += at.lanes) {
    const int64_t index = row * t.channels + at.channel;
    const Vector<T, N> d = load<N>(static_cast<const T*>(a.d) + index),
                       x = load<N>(static_cast<const T*>(a.x) + index);
    if (d_x) store_anywhere(d_x + index, scaled(d, factor));
#pragma unroll
    for (int n = 0; n < N; ++n) {
      const C v = C(d.values[n]);
      sum[n] += v;
      product[n] = std::fma(v, C(x.values[n]) - center[n], product[n]);
    }
  }
#pragma unroll
  for (int n = 0; n < N; ++n) lanes.set(t, at, n, double{sum[n]}, double{product[n]});
  __syncthreads();
  lanes.for_each_channel(t, at, [&](int channel, int index, int stride) {
    double d = 0, d_x_sum = 0;
    for (int lane = 0; lane < t.lanes; ++lane, index += stride) {
      d += lanes.first[index];
      d_x_sum += lanes.second[index];
    }
    double* out = sums + at.row_block * 2 * t.channels + channel;
    out[0] = d;
    out[t.channels] = d_x_sum;
  });
}

template <class C>
__global__ void __launch_bounds__(kThreads)
    gradient_totals_kernel(BatchNormGrad a, Tiling t, const double* sums, Coefficients<C> to) {
  __shared__ BlockSums::Scratch scratch;
  const BlockSums total(t, scratch);
  const double* first = sums + total.channel;
  const int64_t stride = 2 * int64_t{t.channels};
  const double d = total.of([&](int64_t block) { return first[block * stride]; }),
               product =
                   total.of([&](int64_t block) { return first[block * stride + t.channels]; });
  if (!total.writes()) return;
  const int j = total.channel;
  const C inv_std = static_cast<const C*>(a.inv_std)[j];
  if (a.d_beta) static_cast<C*>(a.d_beta)[j] = static_cast<C>(d);
  if (a.d_gamma) static_cast<C*>(a.d_gamma)[j] = static_cast<C>(product * inv_std);
  const auto rows = static_cast<double>(t.rows);
  to.center[j] = static_cast<const C*>(a.mean)[j];
  to.factor[j] = value_or<C>(a.gamma, j, 1) * inv_std;
  to.shift[j] = static_cast<C>(d / rows);
  to.slope[j] = static_cast<C>(product * double{inv_std} * inv_std / rows);
}

// d_x = factor (d - shift - (x - center) slope), statistics of the batch.
template <class T, int N>
__global__ void __launch_bounds__(kThreads, 3)
    input_gradient_kernel(BatchNormGrad a, Tiling t, Coefficients<compute_t<T>> from) {
  using C = compute_t<T>;
  // From the end: what the sums read last may still be in L2.
  const Place<N> at(t, gridDim.x - 1 - blockIdx.x);
  if (at.row >= at.end) return;
  C center[N], factor[N], shift[N], slope[N];
  load_channels(from.center + at.channel, center);
  load_channels(from.factor + at.channel, factor);
  load_channels(from.shift + at.channel, shift);
  load_channels(from.slope + at.channel, slope);
#pragma unroll 2
  for (int64_t row = at.row; row < at.end; row += at.lanes) {
    const int64_t index = row * t.channels + at.channel;
    const Vector<T, N> d = load<N>(static_cast<const T*>(a.d) + index),
                       x = load<N>(static_cast<const T*>(a.x) + index);
    Vector<T, N> d_x;
#pragma unroll
    for (int n = 0; n < N; ++n)
      d_x.values[n] =
          T(factor[n] * (C(d.values[n]) - shift[n] - (C(x.values[n]) - center[n]) * slope[n]));
    store_anywhere(static_cast<T*>(a.d_x) + index, d_x);
  }
}

// d_x with constant statistics, for callers that need no sums.
template <class T, int N>
__global__ void __launch_bounds__(kThreads, 3) scaled_gradient_kernel(BatchNormGrad a, Tiling t) {
  const Place<N> at(t, blockIdx.x);
  if (at.row >= at.end) return;
  compute_t<T> factor[N];
  load_factor(a, at.channel, factor);
#pragma unroll 2
  for (int64_t row = at.row; row < at.end; row += at.lanes) {
    const int64_t index = row * t.channels + at.channel;
    store_anywhere(static_cast<T*>(a.d_x) + index,
                   scaled(load<N>(static_cast<const T*>(a.d) + index), factor));
  }
}

template <class T, int N>
Status gradient(Cuda on, const BatchNormGrad& a) {
  using C = compute_t<T>;
  const bool batch = a.statistics == NormStatistics::batch;
  const Tiling pass = pass_tiling(a.rows, a.channels, N);
  if (!a.d_gamma && !a.d_beta && !(batch && a.d_x))
    return a.d_x ? launch(on, pass.grid(), scaled_gradient_kernel<T, N>, a, pass) : Status::ok;
  const Tiling t = sums_tiling(a.rows, a.channels, N);
  const Workspace workspace(on, t);
  const auto coefficients = workspace.coefficients<C>();
  Status status = launch(on, t.grid(), gradient_sums_kernel<T, N>, a, t, workspace.sums);
  if (status != Status::ok) return status;
  status = launch(on, BlockSums::grid(a.channels), gradient_totals_kernel<C>, a, t, workspace.sums,
                  coefficients);
  if (status != Status::ok || !batch || !a.d_x) return status;
  return launch(on, pass.grid(), input_gradient_kernel<T, N>, a, pass, coefficients);
}

}  // namespace moat::kernels::batch_norm
