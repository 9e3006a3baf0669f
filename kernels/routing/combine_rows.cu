#include "kernels/routing/combine_rows.h"

#include <cmath>

#include "kernels/cuda.cuh"
#include "kernels/cuda/stretch.cuh"
#include "kernels/cuda/vector.cuh"

// A warp per token, a vector of 16 bytes per lane, the rows of kInFlight choices under way at once.
// combine_rows moves (k + 1) · tokens · width values, its gradient d_y once, d_rows once and rows
// once: all far below an operation per byte, so memory is the bound.

namespace moat::kernels {

namespace {

constexpr int kWarps = 8;     // per block
constexpr int kInFlight = 4;  // choices

// Columns of a token that a warp takes, two vectors a lane: few enough to keep many warps busy with
// few tokens.
template <int N>
constexpr int64_t kColumns = 2 * kWarp* N;

template <class T, int N>
__global__ void __launch_bounds__(kWarps* kWarp) combine_kernel(CombineRows a) {
  using C = compute_t<T>;
  const Stretch s = warp_stretch(a.width, kColumns<N>);
  const int64_t token = s.row;
  if (token >= a.tokens) return;
  const int32_t* slots = a.slot_of + token * a.k;
  const C* weights = a.weights ? static_cast<const C*>(a.weights) + token * a.k : nullptr;
  const T* rows = static_cast<const T*>(a.rows);
  T* y = static_cast<T*>(a.y) + token * a.width;
  for (int64_t column = s.first + lane_index() * N; column < s.last; column += kWarp * N) {
    C sums[N] = {};
    for (int first = 0; first < a.k; first += kInFlight) {
      Vector<T, N> row[kInFlight];
      bool kept[kInFlight];
#pragma unroll
      for (int u = 0; u < kInFlight; ++u) {
        const int32_t slot = first + u < a.k ? slots[first + u] : -1;
        kept[u] = slot >= 0 && slot < a.row_count;
        if (kept[u]) row[u] = load<N>(rows + slot * a.width + column);
      }
#pragma unroll
      for (int u = 0; u < kInFlight; ++u) {
        if (!kept[u]) continue;
        const C weight = weights ? weights[first + u] : C(1);
        for (int n = 0; n < N; ++n) sums[n] += weight * static_cast<C>(row[u].values[n]);
      }
    }
    Vector<T, N> out;
    for (int n = 0; n < N; ++n) out.values[n] = T(sums[n]);
    store(y + column, out);
  }
}

// A warp takes `columns` of them; all, where the sums of d_weights are wanted.
template <class T, int N>
__global__ void __launch_bounds__(kWarps* kWarp, 3)
    combine_grad_kernel(CombineRowsGrad a, int64_t columns) {
  using C = compute_t<T>;
  const Stretch s = warp_stretch(a.width, columns);
  const int64_t token = s.row;
  if (token >= a.tokens) return;
  const T* d_y = static_cast<const T*>(a.d_y) + token * a.width;
  const T* rows = static_cast<const T*>(a.rows);
  T* d_rows = static_cast<T*>(a.d_rows);
  C* d_weights = static_cast<C*>(a.d_weights);
  for (int first = 0; first < a.k; first += kInFlight) {
    int32_t slots[kInFlight];  // -1 for a choice that is dropped or not there
    C weights[kInFlight], sums[kInFlight] = {};
#pragma unroll
    for (int u = 0; u < kInFlight; ++u) {
      const int64_t at = token * a.k + first + u;
      slots[u] = first + u < a.k ? a.slot_of[at] : -1;
      if (slots[u] >= a.row_count) slots[u] = -1;
      weights[u] = a.weights && slots[u] >= 0 ? static_cast<const C*>(a.weights)[at] : C(1);
    }
    for (int64_t column = s.first + lane_index() * N; column < s.last; column += kWarp * N) {
      const Vector<T, N> d = load<N>(d_y + column);
      Vector<T, N> row[kInFlight];
#pragma unroll
      for (int u = 0; u < kInFlight; ++u)
        if (d_weights && slots[u] >= 0) row[u] = load<N>(rows + slots[u] * a.width + column);
#pragma unroll
      for (int u = 0; u < kInFlight; ++u) {
        if (slots[u] < 0) continue;
        if (d_weights)
          for (int n = 0; n < N; ++n)
            sums[u] =
                std::fma(static_cast<C>(d.values[n]), static_cast<C>(row[u].values[n]), sums[u]);
        if (!d_rows) continue;
        Vector<T, N> out;
        for (int n = 0; n < N; ++n) out.values[n] = T(weights[u] * static_cast<C>(d.values[n]));
        store_anywhere(d_rows + slots[u] * a.width + column, out);
      }
    }
    if (!d_weights) continue;
#pragma unroll
    for (int u = 0; u < kInFlight; ++u) {
      const C sum = warp_reduce(sums[u], Sum());
      if (lane_index() == 0 && first + u < a.k) d_weights[token * a.k + first + u] = sum;
    }
  }
}

// Which rows no choice has is not known beforehand. The first value of each row of d_rows tells it
// until the row is written: 1 where a choice has the row. That touches a sector of each row, where
// clearing all of d_rows first would write it twice.
template <class T>
__global__ void clear_marks_kernel(CombineRowsGrad a) {
  const int64_t row = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (row < a.row_count) static_cast<T*>(a.d_rows)[row * a.width] = T(0);
}

template <class T>
__global__ void mark_kernel(CombineRowsGrad a) {
  const int64_t pair = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (pair >= int64_t{a.tokens} * a.k) return;
  const int32_t slot = a.slot_of[pair];
  if (slot >= 0 && slot < a.row_count) static_cast<T*>(a.d_rows)[slot * a.width] = T(1);
}

template <class T, int N>
__global__ void __launch_bounds__(kWarps* kWarp) clear_unmarked_kernel(CombineRowsGrad a) {
  const int64_t row = warp_stretch(a.width, a.width).row;
  if (row >= a.row_count) return;
  T* d_row = static_cast<T*>(a.d_rows) + row * a.width;
  const bool marked = d_row[0] != T(0);
  __syncwarp();  // the mark is read by all before it is overwritten
  if (marked) return;
  for (int64_t column = lane_index() * N; column < a.width; column += kWarp * N)
    store(d_row + column, Vector<T, N>{});
}

template <class T>
Status clear_rows_without_choice(Cuda on, const CombineRowsGrad& a) {
  constexpr int kThreads = 256;
  const Grid rows{blocks_of(a.row_count, kThreads), dim3(kThreads)};
  const Grid pairs{blocks_of(int64_t{a.tokens} * a.k, kThreads), dim3(kThreads)};
  if (const Status status = launch(on, rows, clear_marks_kernel<T>, a); status != Status::ok)
    return status;
  if (const Status status = launch(on, pairs, mark_kernel<T>, a); status != Status::ok)
    return status;
  return with_vector<T>(a.width, {a.d_rows}, [&]<int N>() {
    return launch(on, stretch_grid(a.row_count, a.width, a.width, kWarps),
                  clear_unmarked_kernel<T, N>, a);
  });
}

template <class Args>
bool is_valid(const Args& a) {
  return a.tokens >= 0 && a.k >= 0 && a.row_count >= 0 && a.width >= 0;
}

}  // namespace

Status combine_rows(Cuda on, const CombineRows& a) {
  if (!is_valid(a)) return Status::bad_args;
  return with_float(a.dtype, [&]<class T>() {
    return with_vector<T>(a.width, {a.rows, a.y}, [&]<int N>() {
      return launch(on, stretch_grid(a.tokens, a.width, kColumns<N>, kWarps), combine_kernel<T, N>,
                    a);
    });
  });
}

Status combine_rows_grad(Cuda on, const CombineRowsGrad& a) {
  if (!is_valid(a)) return Status::bad_args;
  return with_float(a.dtype, [&]<class T>() {
    if (a.d_rows && a.width > 0)
      if (const Status status = clear_rows_without_choice<T>(on, a); status != Status::ok)
        return status;
    if (!a.d_rows && !a.d_weights) return Status::ok;
    return with_vector<T>(a.width, {a.d_y, a.d_weights ? a.rows : a.d_rows}, [&]<int N>() {
      const int64_t columns = a.d_weights ? a.width : kColumns<N>;
      return launch(on, stretch_grid(a.tokens, a.width, columns, kWarps), combine_grad_kernel<T, N>,
                    a, columns);
    });
  });
}

}  // namespace moat::kernels
