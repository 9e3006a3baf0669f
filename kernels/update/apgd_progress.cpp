#include "kernels/update/apgd_progress.h"

#include <algorithm>
#include <cmath>

#include "kernels/parallel.h"

namespace moat::kernels {

namespace {

void look(const ApgdProgress& a, int64_t i) {
  const int64_t first = i * a.pixels;
  const auto copy = [&](const float* from, float* to) {
    std::copy_n(from + first, a.pixels, to + first);
  };
  const float loss = a.loss[i];
  a.rises[i] += loss > a.last_loss[i];
  a.last_loss[i] = loss;
  if (loss > a.best_loss[i] || (std::isnan(a.best_loss[i]) && !std::isnan(loss))) {
    a.best_loss[i] = loss;
    copy(a.points, a.best_points);
    copy(a.gradient, a.best_gradient);
  }
  if (a.window == 0) return;
  const bool stuck = !a.halved[i] && a.best_loss[i] <= a.checked_loss[i],
             halve = a.rises[i] <= a.rho * a.window || stuck;
  if (halve) {
    a.step[i] /= 2;
    copy(a.best_points, a.points);
    copy(a.best_gradient, a.gradient);
  }
  a.halved[i] = halve;
  a.checked_loss[i] = a.best_loss[i];
  a.rises[i] = 0;
}

}  // namespace

Status apgd_progress(Cpu, const ApgdProgress& a) {
  if (a.n < 0 || a.pixels < 0 || a.window < 0 || !std::isfinite(a.rho)) return Status::bad_args;
  parallel_for(a.n, 1 + 16384 / (a.pixels + 1), [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) look(a, i);
  });
  return Status::ok;
}

}  // namespace moat::kernels
