#pragma once

#include "kernels/cuda/vector.cuh"
#include "kernels/experts/activation_functions.h"
#include "kernels/experts/grouped_gemm.h"

namespace moat::kernels::sm80 {

// The columns of w that a tile has side by side. Without swiglu they are w's. With it every 8
// columns of gates precede the 8 of values that they are multiplied with: column c of the tile is
// column gated_column(first, c, n / 2) of w, where `first` is the tile's first column of y; n or
// more where there is none.
constexpr int gated_column(int first, int c, int half) {
  const int j = first + c / 16 * 8 + c % 8;
  return j >= half ? 2 * half : c % 16 < 8 ? j : half + j;
}

// The first `count` of N values side by side, as one store where rows are aligned for that.
template <class T, int N>
__device__ void store_values(T* to, const float (&values)[N], int count, bool aligned) {
  Vector<T, N> rounded;
#pragma unroll
  for (int i = 0; i < N; ++i) rounded.values[i] = T(values[i]);
  if (count >= N && aligned) return store(to, rounded);
#pragma unroll
  for (int i = 0; i < N; ++i)
    if (i < count) to[i] = rounded.values[i];
}

// Whether rows of `width` values from `base` on take vectors of 16 bytes.
template <class T>
__device__ bool takes_vectors(const void* base, int width) {
  return width % (16 / static_cast<int>(sizeof(T))) == 0 &&
         reinterpret_cast<uintptr_t>(base) % 16 == 0;
}

// Bias, activation and stores, for kColumns neighbouring columns of a row at a time: 16 bytes of y.
template <class T>
class Epilogue {
 public:
  static constexpr int kColumns = 16 / sizeof(T);
  using Values = float[kColumns];

  __device__ Epilogue(const GroupedGemm& a, int expert)
      : a_(a),
        bias_(a.bias ? static_cast<const float*>(a.bias) + int64_t{expert} * a.n : nullptr),
        width_(activated_width(a.activation, a.n)),
        aligned_y_(takes_vectors<T>(a.y, width_)),
        aligned_pre_(takes_vectors<T>(a.pre, a.n) && width_ % kColumns == 0) {}

  // Takes the sums of columns `column` … of y, whose first is inside y.
  __device__ void finish(int64_t row, int column, Values& sums) const {
    add_bias(sums, column, column);
    store_pre(row, column, column, sums);
    with_function<float>(a_.activation, [&]<class Function>() {
#pragma unroll
      for (float& v : sums) v = Function::value(v);
    });
    store_y(row, column, sums);
  }
  // With swiglu, from the sums of both halves.
  __device__ void finish(int64_t row, int column, Values& gates, Values& values) const {
    add_bias(gates, column, column);
    add_bias(values, column, width_ + column);
    store_pre(row, column, column, gates);
    store_pre(row, column, width_ + column, values);
#pragma unroll
    for (int i = 0; i < kColumns; ++i) gates[i] = Silu<float>::value(gates[i]) * values[i];
    store_y(row, column, gates);
  }
  // Zeros, in a row that no expert has.
  __device__ void clear(int64_t row, int column) const {
    const Values zeros{};
    store_y(row, column, zeros);
    store_pre(row, column, column, zeros);
    if (width_ != a_.n) store_pre(row, column, width_ + column, zeros);
  }

  __device__ int width() const { return width_; }

 private:
  __device__ void add_bias(Values& sums, int column, int w_column) const {
    if (!bias_) return;
#pragma unroll
    for (int i = 0; i < kColumns; ++i)
      if (column + i < width_) sums[i] += bias_[w_column + i];
  }
  __device__ void store_y(int64_t row, int column, const Values& y) const {
    store_values(static_cast<T*>(a_.y) + row * width_ + column, y, width_ - column, aligned_y_);
  }
  __device__ void store_pre(int64_t row, int column, int w_column, const Values& pre) const {
    if (a_.pre)
      store_values(static_cast<T*>(a_.pre) + row * a_.n + w_column, pre, width_ - column,
                   aligned_pre_);
  }

  const GroupedGemm& a_;
  const float* bias_;
  int width_;
  bool aligned_y_, aligned_pre_;
};

}  // namespace moat::kernels::sm80
