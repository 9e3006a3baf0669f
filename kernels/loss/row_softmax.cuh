#pragma once

// Rows of logits on CUDA: a warp per row, or a block for long ones.

#include "kernels/cuda/row_threads.cuh"

namespace moat::kernels {

inline constexpr int kWarpColumns = 512;  // rows up to this have a warp each, longer ones a block

// Calls f.operator()<Threads>() with the threads that a row of this length gets.
template <class F>
Status with_row_threads(int columns, F&& f) {
  return columns <= kWarpColumns ? f.template operator()<kWarp>()
                                 : f.template operator()<kRowBlock>();
}

// What the softmax of one row of logits needs, in float64: RowSoftmax of row_softmax.h, made by all
// threads of the row together.
struct SharedRowSoftmax {
  double max, rest;  // of exp(x_i - max) over i != argmax; NaN for a NaN or an infinite maximum
  int argmax;        // the first

  __device__ double log_probability(double x) const { return (x - max) - log1p(rest); }
  __device__ double probability(double x) const { return exp(x - max) / (1 + rest); }
  // 1 - probability(x_i) without the cancellation.
  __device__ double others(double x, int i) const {
    return (i == argmax ? rest : 1 + rest - exp(x - max)) / (1 + rest);
  }
};

template <int Threads, class T>
__device__ SharedRowSoftmax shared_row_softmax(const RowThreads<Threads>& mine, const T* x, int n) {
  using C = compute_t<T>;
  double max = -INFINITY;
  for (int i = mine.thread; i < n; i += Threads) max = Largest()(max, double{C(x[i])});
  max = mine.reduce(max, Largest());
  int argmax = n;
  for (int i = mine.thread; i < n && argmax == n; i += Threads)
    if (double{C(x[i])} == max) argmax = i;
  argmax = mine.reduce(argmax, Smallest());
  double rest = mine.thread == 0 ? max - max : 0.0;
  for (int i = mine.thread; i < n; i += Threads)
    if (i != argmax) rest += exp(double{C(x[i])} - max);
  return {max, mine.reduce(rest, Sum()), argmax};
}

}  // namespace moat::kernels
