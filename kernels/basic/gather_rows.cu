#include "kernels/basic/gather_rows.h"

#include <bit>
#include <utility>

#include "kernels/cuda.cuh"
#include "kernels/cuda/stretch.cuh"
#include "kernels/cuda/vector.cuh"
#include "kernels/routing/dispatch_rows.h"
#include "kernels/routing/routing_index/counting_sort.cuh"

// The rows of a gather are moved by dispatch_rows. Its gradient reads d_y once and writes d_x once:
// a warp owns a stretch of a source's row and adds its takers in ascending order, which it finds in
// the index itself where that is short, else in a stable radix sort of the rows by source (28 bytes
// a row and pass), which stays in L2.

namespace moat::kernels {

namespace {

constexpr int kWarps = 8;    // per block
constexpr int kVectors = 4;  // of a lane
constexpr int kFewRows = 1024;
constexpr int kDigitBits = 8;  // of a pass of the radix sort

// The source that a row was taken from; one past the last where there is no such source.
__device__ int source_of(const GatherRowsGrad& a, int64_t row) {
  const int32_t source = a.index[row];
  return static_cast<unsigned>(source) < static_cast<unsigned>(a.sources) ? source : a.sources;
}

// Takers of a source by reading all of the index.
struct InIndex {
  template <class Body>
  __device__ void for_each_taker(const GatherRowsGrad& a, int source, Body&& body) const {
    for (int first = 0; first < a.rows; first += kWarp) {
      const int mine = first + lane_index();
      const bool takes = mine < a.rows && a.index[mine] == source;
      for (unsigned takers = __ballot_sync(kAllLanes, takes); takers != 0; takers &= takers - 1)
        body(int64_t{first} + __ffs(static_cast<int>(takers)) - 1);
    }
  }
};

// Takers of a source from the rows sorted by source.
struct InOrder {
  const int32_t* order;  // [rows]

  // Where the first row of `source` or a later one is, by steps of all lanes.
  __device__ int64_t first_of(const GatherRowsGrad& a, int source) const {
    int64_t low = 0, high = a.rows;
    while (low < high) {
      const int64_t step = (high - low + kWarp - 1) / kWarp;
      const int64_t probe = low + (lane_index() + 1) * step - 1;
      const bool before = probe < high && source_of(a, order[probe]) < source;
      low += __popc(__ballot_sync(kAllLanes, before)) * step;
      high = low + step - 1 < high ? low + step - 1 : high;
    }
    return low;
  }
  template <class Body>
  __device__ void for_each_taker(const GatherRowsGrad& a, int source, Body&& body) const {
    const int64_t end = first_of(a, source + 1);
#pragma unroll 2
    for (int64_t at = first_of(a, source); at < end; ++at) body(order[at]);
  }
};

template <int N>
constexpr int64_t kColumns = kVectors* kWarp* N;

template <class T, int N, class Takers>
__global__ void __launch_bounds__(kWarps* kWarp)
    add_takers_kernel(GatherRowsGrad a, Takers takers) {
  using C = compute_t<T>;
  const Stretch s = warp_stretch(a.width, kColumns<N>);
  if (s.row >= a.sources) return;
  const auto column = [&](int v) { return s.first + (v * kWarp + lane_index()) * N; };
  const T* d_y = static_cast<const T*>(a.d_y);
  C sums[kVectors][N] = {};
  takers.for_each_taker(a, static_cast<int>(s.row), [&](int64_t row) {
    Vector<T, N> taken[kVectors];
#pragma unroll
    for (int v = 0; v < kVectors; ++v)
      if (column(v) < s.last) taken[v] = load<N>(d_y + row * a.width + column(v));
#pragma unroll
    for (int v = 0; v < kVectors; ++v)
      if (column(v) < s.last)
        for (int n = 0; n < N; ++n) sums[v][n] += static_cast<C>(taken[v].values[n]);
  });
  T* d_x = static_cast<T*>(a.d_x) + s.row * a.width;
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    if (column(v) >= s.last) continue;
    Vector<T, N> out;
    for (int n = 0; n < N; ++n) out.values[n] = T(sums[v][n]);
    store(d_x + column(v), out);
  }
}

template <class Takers>
Status add_takers(Cuda on, const GatherRowsGrad& a, const Takers& takers) {
  return with_float(a.dtype, [&]<class T>() {
    return with_vector<T>(a.width, {a.d_y, a.d_x}, [&]<int N>() {
      return launch(on, stretch_grid(a.sources, a.width, kColumns<N>, kWarps),
                    add_takers_kernel<T, N, Takers>, a, takers);
    });
  });
}

// A pass of the radix sort of the rows by source, by one digit of it.
struct SourceDigit {
  static constexpr bool kFromStartOfBin = false;
  GatherRowsGrad a;
  const int32_t* from;  // nullptr: the rows in their own order
  int32_t* to;
  int shift;

  __device__ int32_t row(int64_t i) const { return from ? from[i] : static_cast<int32_t>(i); }
  __device__ int bin(int64_t i) const {
    return source_of(a, row(i)) >> shift & ((1 << kDigitBits) - 1);
  }
  __device__ void start_bin(int, int32_t) const {}
  __device__ void put(int64_t i, int32_t position) const { to[position] = row(i); }
  __device__ void put_nothing(int64_t) const {}
};

size_t scratch_of(const GatherRowsGrad& a) {
  return counting_sort::scratch_of(counting_sort::cut(a.rows), 1 << kDigitBits);
}

// Sorts the rows by source; *order is where they are then.
Status sort_rows(Cuda on, const GatherRowsGrad& a, const int32_t** order) {
  auto* scratch = static_cast<int32_t*>(on.workspace);
  int32_t *to = scratch + scratch_of(a), *other = to + a.rows;
  *order = nullptr;
  const int bits = std::bit_width(static_cast<unsigned>(a.sources));
  for (int shift = 0; shift < bits; shift += kDigitBits) {
    const SourceDigit digit{.a = a, .from = *order, .to = to, .shift = shift};
    if (const Status status =
            counting_sort::sort(on, digit, counting_sort::cut(a.rows), 1 << kDigitBits, scratch);
        status != Status::ok)
      return status;
    *order = to;
    std::swap(to, other);
  }
  return Status::ok;
}

}  // namespace

Status gather_rows(Cuda on, const GatherRows& a) {
  if (a.rows < 0 || a.sources < 0 || a.row_bytes < 0) return Status::bad_args;
  return dispatch_rows(on, {.x = a.x,
                            .row_token = a.index,
                            .y = a.y,
                            .tokens = a.sources,
                            .rows = a.rows,
                            .width = a.row_bytes,
                            .dtype = Dtype::u8});
}

size_t gather_rows_grad_workspace(Cuda, const GatherRowsGrad& a) {
  return a.rows <= kFewRows ? 0
                            : sizeof(int32_t) * (scratch_of(a) + 2 * static_cast<size_t>(a.rows));
}

Status gather_rows_grad(Cuda on, const GatherRowsGrad& a) {
  if (a.rows < 0 || a.sources < 0 || a.width < 0) return Status::bad_args;
  if (on.workspace_bytes < gather_rows_grad_workspace(on, a)) return Status::small_workspace;
  if (a.sources == 0 || a.width == 0) return Status::ok;
  if (a.rows <= kFewRows) return add_takers(on, a, InIndex());
  const int32_t* order = nullptr;
  if (const Status status = sort_rows(on, a, &order); status != Status::ok) return status;
  return add_takers(on, a, InOrder{order});
}

}  // namespace moat::kernels
