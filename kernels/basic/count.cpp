#include "kernels/basic/count.h"

#include <algorithm>
#include <atomic>

#include "kernels/parallel.h"

namespace moat::kernels {

Status count_equal(Cpu, const CountEqual& a) {
  if (a.count < 0) return Status::bad_args;
  std::atomic<int64_t> total = 0;
  parallel_for(a.count, 65536, [&](int64_t from, int64_t to) {
    int64_t equal = 0;
    for (int64_t i = from; i < to; ++i) equal += a.a[i] == a.b[i];
    total += equal;
  });
  *a.equal = total;
  return Status::ok;
}

Status bin_count(Cpu, const BinCount& a) {
  if (a.count < 0 || a.bins < 0) return Status::bad_args;
  std::fill_n(a.counts, a.bins, 0);
  for (int64_t i = 0; i < a.count; ++i)
    if (a.x[i] >= 0 && a.x[i] < a.bins) ++a.counts[a.x[i]];
  return Status::ok;
}

}  // namespace moat::kernels
