#include "kernels/update/keep_worst.h"

#include <algorithm>
#include <atomic>

#include "kernels/index_range.h"
#include "kernels/parallel.h"

namespace moat::kernels {

Status keep_worst(Cpu, const KeepWorst& a) {
  if (a.n < 0 || a.images < 0 || a.pixels < 0 || a.number < 0 ||
      !indices_in_range(a.rows, a.n, a.images))
    return Status::bad_args;
  std::atomic<int32_t> resisting = 0;
  parallel_for(a.n, 1 + 16384 / (a.pixels + 1), [&](int64_t from, int64_t to) {
    int32_t not_fooled = 0;
    for (int64_t i = from; i < to; ++i) {
      const int64_t r = a.rows[i];
      if (a.fooled_at[r] >= 0) continue;
      const bool wrong = a.predicted[i] != a.labels[r];
      if (wrong || a.loss[i] > a.best_loss[r]) {
        a.best_loss[r] = a.loss[i];
        std::copy_n(a.points + i * a.pixels, a.pixels, a.worst + r * a.pixels);
      }
      if (wrong)
        a.fooled_at[r] = a.number;
      else
        ++not_fooled;
    }
    resisting += not_fooled;
  });
  *a.resisting = resisting;
  return Status::ok;
}

}  // namespace moat::kernels
