#include "kernels/basic/reduce.h"

#include <algorithm>
#include <array>
#include <limits>

#include "kernels/parallel.h"

namespace moat::kernels {

namespace {

constexpr int64_t kGrain = 16384;          // elements a thread takes at least
constexpr int64_t kBlockElements = 65536;  // of the axis times inner
constexpr int64_t kTile = 512;             // columns whose sums are on the stack at once

// Rows of the axis that are summed in one go.
int64_t block_rows(const SumAxis& a) {
  return std::max<int64_t>(64, kBlockElements / std::max<int64_t>(1, a.inner));
}

int64_t num_blocks(const SumAxis& a) { return (a.axis + block_rows(a) - 1) / block_rows(a); }

// Sum of a contiguous run: 16 interleaved sums, added pairwise.
template <class T>
double run_sum(const T* x, int64_t count) {
  constexpr int64_t kLanes = 16;
  std::array<double, kLanes> lanes{};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes)
    for (int64_t lane = 0; lane < kLanes; ++lane)
      lanes[static_cast<size_t>(lane)] += static_cast<compute_t<T>>(x[i + lane]);
  for (int64_t lane = 0; i < count; ++i, ++lane)
    lanes[static_cast<size_t>(lane)] += static_cast<compute_t<T>>(x[i]);
  for (size_t half = kLanes / 2; half > 0; half /= 2)
    for (size_t lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  return lanes[0];
}

// out[i] = sum of `rows` rows of x [rows, inner].
template <class T, class Out>
void column_sums(const T* x, int64_t rows, int64_t inner, Out* out) {
  for (int64_t first = 0; first < inner; first += kTile) {
    const int64_t columns = std::min(kTile, inner - first);
    std::array<double, kTile> sums{};
    for (int64_t row = 0; row < rows; ++row) {
      const T* at = x + row * inner + first;
      for (int64_t i = 0; i < columns; ++i)
        sums[static_cast<size_t>(i)] += static_cast<compute_t<T>>(at[i]);
    }
    for (int64_t i = 0; i < columns; ++i)
      out[first + i] = static_cast<Out>(static_cast<compute_t<Out>>(sums[static_cast<size_t>(i)]));
  }
}

template <class T, class Out>
void block_sum(const T* x, int64_t rows, int64_t inner, Out* out) {
  if (inner == 1)
    *out = static_cast<Out>(static_cast<compute_t<Out>>(run_sum(x, rows)));
  else
    column_sums(x, rows, inner, out);
}

bool is_view(int64_t outer, int64_t axis, int64_t inner) {
  return outer >= 0 && axis >= 0 && inner >= 0;
}

}  // namespace

size_t sum_workspace(Cpu, const SumAxis& a) {
  const int64_t blocks = num_blocks(a);
  return blocks <= 1 ? 0 : static_cast<size_t>(a.outer * blocks * a.inner) * sizeof(double);
}

Status sum(Cpu on, const SumAxis& a) {
  if (!is_view(a.outer, a.axis, a.inner)) return Status::bad_args;
  if (on.workspace_bytes < sum_workspace(on, a)) return Status::small_workspace;
  const int64_t blocks = num_blocks(a), rows = block_rows(a), slice = a.axis * a.inner;
  return with_formats(a, [&]<class T, class Y>() {
    const auto* x = static_cast<const T*>(a.x);
    auto* y = static_cast<Y*>(a.y);
    if (blocks <= 1) {
      const int64_t grain = std::max<int64_t>(1, kGrain / std::max<int64_t>(1, slice));
      parallel_for(a.outer, grain, [&](int64_t from, int64_t to) {
        for (int64_t o = from; o < to; ++o)
          block_sum(x + o * slice, a.axis, a.inner, y + o * a.inner);
      });
      return Status::ok;
    }
    auto* partial = static_cast<double*>(on.workspace);  // [outer, blocks, inner]
    parallel_for(a.outer * blocks, 1, [&](int64_t from, int64_t to) {
      for (int64_t item = from; item < to; ++item) {
        const int64_t first = item % blocks * rows;
        block_sum(x + item / blocks * slice + first * a.inner, std::min(rows, a.axis - first),
                  a.inner, partial + item * a.inner);
      }
    });
    for (int64_t o = 0; o < a.outer; ++o)
      column_sums(partial + o * blocks * a.inner, blocks, a.inner, y + o * a.inner);
    return Status::ok;
  });
}

Status max_axis(Cpu, const MaxAxis& a) {
  if (!is_view(a.outer, a.axis, a.inner) || a.axis > std::numeric_limits<int32_t>::max())
    return Status::bad_args;
  if (a.outer * a.inner == 0) return Status::ok;
  if (a.axis == 0) return Status::bad_args;
  return with_float(a.dtype, [&]<class T>() {
    using C = compute_t<T>;
    const auto* x = static_cast<const T*>(a.x);
    auto* y = static_cast<T*>(a.y);
    const int64_t grain = std::max<int64_t>(1, kGrain / a.axis);
    parallel_for(a.outer * a.inner, grain, [&](int64_t from, int64_t to) {
      for (int64_t at = from; at < to; ++at) {
        const T* column = x + at / a.inner * a.axis * a.inner + at % a.inner;
        int64_t best = 0;
        C best_value = static_cast<C>(column[0]);
        for (int64_t i = 1; i < a.axis && best_value == best_value; ++i) {
          const C value = static_cast<C>(column[i * a.inner]);
          if (value <= best_value) continue;
          best = i;
          best_value = value;
        }
        a.index[at] = static_cast<int32_t>(best);
        if (y) y[at] = column[best * a.inner];
      }
    });
    return Status::ok;
  });
}

Status max_axis_grad(Cpu, const MaxAxisGrad& a) {
  if (!is_view(a.outer, a.axis, a.inner)) return Status::bad_args;
  return with_float(a.dtype, [&]<class T>() {
    const auto* d_y = static_cast<const T*>(a.d_y);
    auto* d_x = static_cast<T*>(a.d_x);
    const int64_t slice = a.axis * a.inner;
    const int64_t grain = std::max<int64_t>(1, kGrain / std::max<int64_t>(1, slice));
    parallel_for(a.outer, grain, [&](int64_t from, int64_t to) {
      std::fill(d_x + from * slice, d_x + to * slice, T{});
      for (int64_t at = from * a.inner; at < to * a.inner; ++at)
        d_x[at / a.inner * slice + a.index[at] * a.inner + at % a.inner] = d_y[at];
    });
    return Status::ok;
  });
}

}  // namespace moat::kernels
