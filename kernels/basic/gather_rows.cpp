#include "kernels/basic/gather_rows.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "kernels/index_range.h"
#include "kernels/parallel.h"

namespace moat::kernels {

namespace {

constexpr int64_t kGrain = 65536;  // bytes a thread moves at least
constexpr int64_t kTile = 256;     // columns whose sums are on the stack at once

int64_t grain_for(int64_t row_bytes) {
  return std::max<int64_t>(1, kGrain / std::max<int64_t>(1, row_bytes));
}

}  // namespace

Status gather_rows(Cpu, const GatherRows& a) {
  if (a.rows < 0 || a.sources < 0 || a.row_bytes < 0 ||
      !indices_in_range(a.index, a.rows, a.sources))
    return Status::bad_args;
  parallel_for(a.rows, grain_for(a.row_bytes), [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i)
      std::memcpy(static_cast<char*>(a.y) + i * a.row_bytes,
                  static_cast<const char*>(a.x) + a.index[i] * a.row_bytes,
                  static_cast<size_t>(a.row_bytes));
  });
  return Status::ok;
}

size_t gather_rows_grad_workspace(Cpu, const GatherRowsGrad& a) {
  return (static_cast<size_t>(a.rows) + static_cast<size_t>(a.sources) + 1) * sizeof(int32_t);
}

Status gather_rows_grad(Cpu on, const GatherRowsGrad& a) {
  if (a.rows < 0 || a.sources < 0 || a.width < 0 || !indices_in_range(a.index, a.rows, a.sources))
    return Status::bad_args;
  if (on.workspace_bytes < gather_rows_grad_workspace(on, a)) return Status::small_workspace;

  // Stable counting sort by source: takers of s are order[ends[s - 1]] .. order[ends[s]].
  auto* ends = static_cast<int32_t*>(on.workspace);  // [sources + 1]
  auto* order = ends + a.sources + 1;                // [rows]
  std::fill(ends, ends + a.sources + 1, 0);
  for (int i = 0; i < a.rows; ++i) ++ends[a.index[i] + 1];
  for (int s = 0; s < a.sources; ++s) ends[s + 1] += ends[s];
  for (int i = 0; i < a.rows; ++i) order[ends[a.index[i]]++] = i;

  return with_float(a.dtype, [&]<class T>() {
    using C = compute_t<T>;
    const auto* d_y = static_cast<const T*>(a.d_y);
    auto* d_x = static_cast<T*>(a.d_x);
    const int64_t grain = grain_for(a.width * static_cast<int64_t>(sizeof(T)));
    parallel_for(a.sources, grain, [&](int64_t from, int64_t to) {
      for (int64_t s = from; s < to; ++s)
        for (int64_t first = 0; first < a.width; first += kTile) {
          const int64_t columns = std::min(kTile, a.width - first);
          std::array<C, kTile> sums{};
          for (int32_t at = s == 0 ? 0 : ends[s - 1]; at < ends[s]; ++at) {
            const T* row = d_y + order[at] * a.width + first;
            for (int64_t j = 0; j < columns; ++j)
              sums[static_cast<size_t>(j)] += static_cast<C>(row[j]);
          }
          for (int64_t j = 0; j < columns; ++j)
            d_x[s * a.width + first + j] = static_cast<T>(sums[static_cast<size_t>(j)]);
        }
    });
    return Status::ok;
  });
}

}  // namespace moat::kernels
