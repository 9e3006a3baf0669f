#include "kernels/basic/reduce.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "kernels/cuda.cuh"
#include "kernels/cuda/stretch.cuh"
#include "kernels/cuda/vector.cuh"

// x is read once, d_x is written once. Threads of a block lie side by side in inner, vectors of 16
// bytes where it allows; those that inner leaves over share the axis, and those that the axis
// leaves over take further results. A long axis is summed in blocks first, by a launch of its own.
// Who sums what depends on axis, inner and the format alone, so neither outer nor an address moves
// a bit.

namespace moat::kernels {

namespace {

constexpr int kThreads = 256;
constexpr int kFewestRows = 8;  // of the axis per thread, while there are any to share
constexpr int kMostRows = 32;   // of the axis per thread, before it is cut into blocks

constexpr int power_of_two_from(int64_t n) {  // at most kThreads
  int power = 1;
  while (power < n && power < kThreads) power *= 2;
  return power;
}

// How threads share [outer, axis, inner], cut along the axis into blocks. N columns belong to a
// thread, a tile of them to `columns` threads, and `rows` threads go through a tile's rows in turn.
struct Shares {
  int64_t outer, axis, inner, tiles, block_rows, blocks;
  int columns, rows;  // powers of two, columns · rows divides kThreads

  int64_t groups() const { return outer * tiles * blocks; }
  int64_t groups_each() const { return kThreads / (columns * rows); }
  Grid grid() const { return {blocks_of(groups(), groups_each()), dim3(kThreads)}; }
};

Shares shares_of(int64_t outer, int64_t axis, int64_t inner, int n) {
  Shares s{};
  s.outer = outer;
  s.axis = axis;
  s.inner = inner;
  s.columns = std::min(kWarp, power_of_two_from((inner + n - 1) / n));
  s.tiles = (inner + n * s.columns - 1) / (n * s.columns);
  s.rows =
      std::min(kThreads / s.columns, power_of_two_from((axis + kFewestRows - 1) / kFewestRows));
  s.block_rows = std::max<int64_t>(1, axis);
  s.blocks = 1;
  return s;
}

// As above, a long axis in blocks.
Shares in_blocks(Shares s) {
  s.block_rows = std::min<int64_t>(s.block_rows, kMostRows * (kThreads / s.columns));
  s.blocks = std::max<int64_t>(1, (s.axis + s.block_rows - 1) / s.block_rows);
  return s;
}

// What a thread has of it: rows row, row + s.rows, … < last of the N columns from `column`.
template <int N>
struct Share {
  int64_t outer, block, row, last, column;
  bool is_any, is_first;  // whether there is anything; whether it is the first of its tile's rows

  __device__ explicit Share(const Shares& s) {
    const int thread = static_cast<int>(threadIdx.x), mine = thread / s.columns % s.rows;
    int64_t group = (int64_t{blockIdx.x} * kThreads + thread) / (s.columns * s.rows);
    const int64_t tile = group % s.tiles;
    group /= s.tiles;
    block = group % s.blocks;
    outer = group / s.blocks;
    column = (tile * s.columns + thread % s.columns) * N;
    row = block * s.block_rows + mine;
    last = (block + 1) * s.block_rows < s.axis ? (block + 1) * s.block_rows : s.axis;
    is_any = outer < s.outer && column < s.inner;
    is_first = is_any && mine == 0;
  }
};

// Adds up, with `op`, what the threads of a tile hold: values[n] of its first row is the result.
template <int N, class T, class Op>
__device__ void join_rows(T (&values)[N], const Shares& s, Op op) {
  __shared__ T shared[N][kThreads];
  const int thread = static_cast<int>(threadIdx.x), row = thread / s.columns % s.rows;
#pragma unroll
  for (int n = 0; n < N; ++n) shared[n][thread] = values[n];
  for (int step = s.rows / 2; step > 0; step /= 2) {
    __syncthreads();
    if (row >= step) continue;
#pragma unroll
    for (int n = 0; n < N; ++n)
      shared[n][thread] = values[n] = op(values[n], shared[n][thread + step * s.columns]);
  }
}

template <int N, bool IsAligned, class T>
__device__ Vector<T, N> load_at(const T* from) {
  if constexpr (IsAligned) {
    return load<N>(from);
  } else {
    Vector<T, N> vector;
#pragma unroll
    for (int n = 0; n < N; ++n) vector.values[n] = from[n];
    return vector;
  }
}

// y [outer, blocks, inner]
template <class T, class Y, int N, bool IsAligned>
__global__ void __launch_bounds__(kThreads) sum_kernel(const T* x, Y* y, Shares s) {
  const Share<N> mine(s);
  double sums[N] = {};
  if (mine.is_any) {
    const T* slice = x + mine.outer * s.axis * s.inner + mine.column;
#pragma unroll 4
    for (int64_t row = mine.row; row < mine.last; row += s.rows) {
      const Vector<T, N> values = load_at<N, IsAligned>(slice + row * s.inner);
#pragma unroll
      for (int n = 0; n < N; ++n) sums[n] += double{static_cast<compute_t<T>>(values.values[n])};
    }
  }
  join_rows(sums, s, Sum());
  if (!mine.is_first) return;
  Y* to = y + (mine.outer * s.blocks + mine.block) * s.inner + mine.column;
#pragma unroll
  for (int n = 0; n < N; ++n) to[n] = static_cast<Y>(static_cast<compute_t<Y>>(sums[n]));
}

// Columns of a thread: what a vector holds where inner is a multiple of that.
template <class T>
constexpr int columns_of(int64_t inner) {
  return inner % kVectorSize<T> == 0 ? kVectorSize<T> : 1;
}

template <class T, class Y>
Status launch_sum(Cuda on, const T* x, Y* y, const Shares& s) {
  constexpr int kSize = kVectorSize<T>;
  if (columns_of<T>(s.inner) == 1) return launch(on, s.grid(), sum_kernel<T, Y, 1, true>, x, y, s);
  const bool is_aligned = reinterpret_cast<uintptr_t>(x) % 16 == 0;
  return launch(on, s.grid(),
                is_aligned ? sum_kernel<T, Y, kSize, true> : sum_kernel<T, Y, kSize, false>, x, y,
                s);
}

template <class T>
Shares shares_of(const SumAxis& a) {
  return in_blocks(shares_of(a.outer, a.axis, a.inner, columns_of<T>(a.inner)));
}

// The larger element of a column: NaN is larger than any other, the earlier of equals.
template <class C>
struct alignas(2 * sizeof(C)) Candidate {
  C value;
  int32_t index;
};
struct Larger {
  template <class C>
  __device__ Candidate<C> operator()(const Candidate<C>& a, const Candidate<C>& b) const {
    const bool a_is_nan = a.value != a.value, b_is_nan = b.value != b.value;
    const bool are_equal = a.value == b.value || (a_is_nan && b_is_nan);
    const bool is_b = are_equal ? b.index < a.index : b_is_nan || b.value > a.value;
    return is_b ? b : a;
  }
};

template <class T, int N>
__global__ void __launch_bounds__(kThreads) max_kernel(const T* x, T* y, int32_t* index, Shares s) {
  using C = compute_t<T>;
  const Share<N> mine(s);
  Candidate<C> best[N] = {};
  const T* slice = x + mine.outer * s.axis * s.inner + mine.column;
  for (int64_t row = mine.row; mine.is_any && row < mine.last; row += s.rows) {
    const Vector<T, N> values = load<N>(slice + row * s.inner);
#pragma unroll
    for (int n = 0; n < N; ++n) {
      const Candidate<C> next{static_cast<C>(values.values[n]), static_cast<int32_t>(row)};
      best[n] = row == mine.row ? next : Larger()(best[n], next);
    }
  }
  join_rows(best, s, Larger());
  if (!mine.is_first) return;
  const int64_t at = mine.outer * s.inner + mine.column;
#pragma unroll
  for (int n = 0; n < N; ++n) {
    index[at + n] = best[n].index;
    if (y) y[at + n] = slice[best[n].index * s.inner + n];
  }
}

// N neighbouring values of d_x.
template <class T, int N>
__global__ void __launch_bounds__(kThreads) max_grad_kernel(MaxAxisGrad a) {
  const int64_t count = a.outer * a.axis * a.inner;
  const int64_t first = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * N;
  if (first >= count) return;
  int64_t row = first / a.inner, column = first - row * a.inner;  // row: of [outer · axis]
  int64_t outer = row / a.axis;
  row -= outer * a.axis;
  Vector<T, N> d_x{};
#pragma unroll
  for (int n = 0; n < N; ++n) {
    if (first + n >= count) continue;
    const int64_t at = outer * a.inner + column;
    if (a.index[at] == row) d_x.values[n] = static_cast<const T*>(a.d_y)[at];
    if (++column < a.inner) continue;
    column = 0;
    if (++row < a.axis) continue;
    row = 0;
    ++outer;
  }
  T* to = static_cast<T*>(a.d_x) + first;
  if (first + N <= count) return store(to, d_x);
#pragma unroll
  for (int n = 0; n < N; ++n)
    if (first + n < count) to[n] = d_x.values[n];
}

template <class Args>
bool is_view(const Args& a) {
  return a.outer >= 0 && a.axis >= 0 && a.inner >= 0;
}

}  // namespace

size_t sum_workspace(Cuda, const SumAxis& a) {
  if (!is_view(a)) return 0;
  size_t bytes = 0;
  with_float(a.dtype, [&]<class T>() {
    const Shares s = shares_of<T>(a);
    if (s.blocks > 1) bytes = static_cast<size_t>(s.outer * s.blocks * s.inner) * sizeof(double);
    return Status::ok;
  });
  return bytes;
}

Status sum(Cuda on, const SumAxis& a) {
  if (!is_view(a)) return Status::bad_args;
  if (on.workspace_bytes < sum_workspace(on, a)) return Status::small_workspace;
  return with_formats(a, [&]<class T, class Y>() {
    const Shares s = shares_of<T>(a);
    const auto* x = static_cast<const T*>(a.x);
    auto* y = static_cast<Y*>(a.y);
    if (s.blocks == 1) return launch_sum(on, x, y, s);
    auto* partial = static_cast<double*>(on.workspace);  // [outer, blocks, inner]
    if (const Status status = launch_sum(on, x, partial, s); status != Status::ok) return status;
    return launch_sum(on, static_cast<const double*>(partial), y,
                      shares_of(a.outer, s.blocks, a.inner, columns_of<double>(a.inner)));
  });
}

Status max_axis(Cuda on, const MaxAxis& a) {
  if (!is_view(a) || a.axis > std::numeric_limits<int32_t>::max()) return Status::bad_args;
  if (a.outer * a.inner == 0) return Status::ok;
  if (a.axis == 0) return Status::bad_args;
  return with_float(a.dtype, [&]<class T>() {
    return with_vector<T>(a.inner, {a.x}, [&]<int N>() {
      const Shares s = shares_of(a.outer, a.axis, a.inner, N);
      return launch(on, s.grid(), max_kernel<T, N>, static_cast<const T*>(a.x),
                    static_cast<T*>(a.y), a.index, s);
    });
  });
}

Status max_axis_grad(Cuda on, const MaxAxisGrad& a) {
  if (!is_view(a)) return Status::bad_args;
  return with_float(a.dtype, [&]<class T>() {
    return with_vector<T>(0, {a.d_x}, [&]<int N>() {
      const int64_t count = a.outer * a.axis * a.inner;
      const Grid grid{blocks_of(count, int64_t{kThreads} * N), dim3(kThreads)};
      return launch(on, grid, max_grad_kernel<T, N>, a);
    });
  });
}

}  // namespace moat::kernels
