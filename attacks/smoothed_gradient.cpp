#include <algorithm>
#include <numeric>

#include "attacks/terms.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/shape.h"
#include "engine/tape.h"

namespace moat::attacks {

using namespace engine;

namespace {

constexpr int64_t kRowsAtOnce = 256;  // points of a pass, where an image has several

// The rows 0 … n - 1, `times` over.
Victims repeated(const Victims& v, int64_t times) {
  std::vector<int32_t> rows;
  for (int64_t i = 0; i < times * v.size(); ++i) rows.push_back(static_cast<int32_t>(i % v.size()));
  return v.rows(rows);
}

}  // namespace

// Pairs are looked at together for speed, and added up one after another, so that an image's
// gradient does not depend on how many fit.
Tensor smoothed_gradient(const Model& model, const Tensor& points, const Victims& v,
                         const Objective& o, const RandomKey& key) {
  require(o.sigma > 0, [&] { return text("sigma must be above 0, got ", o.sigma); });
  const NoTapeScope not_recorded;
  const int64_t n = v.size(), pixels = n ? points.size() / n : 0;
  const int64_t at_once =
      std::clamp<int64_t>(kRowsAtOnce / std::max<int64_t>(2 * n, 1), 1, std::max(o.samples, 1));
  Tensor gradient = Tensor::zeros({n, pixels}, points.dtype(), points.device());
  for (int64_t from = 0; from < o.samples && n > 0; from += at_once) {
    const int64_t pairs = std::min<int64_t>(at_once, o.samples - from);
    Tensors draws, both;
    for (int64_t s = from; s < from + pairs; ++s) {
      draws.push_back(random_normal(points.shape(), v.ids,
                                    {.seed = key.seed,
                                     .purpose = Purpose::smoothing,
                                     .iteration = key.iteration,
                                     .stream = static_cast<uint32_t>(s)},
                                    0, 1, points.dtype()));
      const Tensor move = scale(draws.back(), o.sigma);
      both.push_back(add(points, move));
      both.push_back(sub(points, move));
    }
    const Tensor seen = concat(both, 0);
    const Victims company = repeated(v, 2 * pairs);
    Tensor value = Tensor::zeros({seen.dim(0)}, points.dtype(), points.device());
    for (int pass = 0; pass < o.passes; ++pass) {
      const Terms t = pass_of(model, {seen, seen}, company, o, key, pass, Verdict::unwanted);
      value = add(value, value_of(t, o));
    }
    for (int64_t s = 0; s < pairs; ++s) {
      const Tensor up = value.sliced(0, 2 * s * n, (2 * s + 1) * n),
                   down = value.sliced(0, (2 * s + 1) * n, (2 * s + 2) * n);
      const Tensor slope = scale(sub(up, down), 1 / (2 * o.sigma * o.samples * o.passes));
      gradient = add(gradient, mul(draws[static_cast<size_t>(s)].reshaped({n, pixels}),
                                   slope.reshaped({n, 1})));
    }
  }
  return gradient.reshaped(points.shape());
}

}  // namespace moat::attacks
