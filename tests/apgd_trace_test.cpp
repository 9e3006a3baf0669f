#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <tuple>

#include "attacks/apgd.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/linalg.h"
#include "engine/ops/reduce.h"
#include "engine/ops/shape.h"
#include "engine/random.h"
#include "tests/models_fixture.h"

namespace moat::tests {

using namespace engine;
using namespace attacks;
using attacks::Gate;

namespace {

// A plain Auto-PGD of one image in float64, on what `look` says is the value and the gradient of a
// point. It follows the points that were seen, so that differences do not add up, and says how far
// from the last ones each of them should have been.
struct Trace {
  double apart = 0;  // the largest difference in a pixel
  double step = 0;   // the last
};

template <class Look>
Trace plain_apgd(const std::vector<std::vector<double>>& seen, const std::vector<double>& center,
                 Norm norm, double eps, Look look) {
  std::vector<double> x = seen[0];
  const size_t d = x.size();
  const auto length = [](const std::vector<double>& v) {
    double square = 0;
    for (double e : v) square += e * e;
    return std::sqrt(square);
  };
  const auto project = [&](const std::vector<double>& point) {
    std::vector<double> offset(d), out(d);
    for (size_t j = 0; j < d; ++j) offset[j] = point[j] - center[j];
    const double far = length(offset);
    for (size_t j = 0; j < d; ++j) {
      if (norm == Norm::linf) offset[j] = std::min(std::max(offset[j], -eps), eps);
      if (norm == Norm::l2 && far > eps) offset[j] *= eps / far;
      out[j] = std::min(std::max(center[j] + offset[j], 0.0), 1.0);
    }
    return out;
  };
  // Steps at which the step may be halved, written down from the windows 22, 19, 16, … of 100.
  const std::vector<int> windows = {22, 19, 16, 13, 10, 7, 6, 6};

  Trace trace;
  double step = 2 * eps;
  auto [loss, gradient] = look(x);
  std::vector<double> losses = {loss}, best = x, best_gradient = gradient, before = x;
  double best_loss = loss, best_at_check = loss;
  bool reduced = true;
  size_t window = 0;
  int since_check = 0;
  for (size_t k = 0; k + 1 < seen.size(); ++k) {
    const double a = k == 0 ? 1 : 0.75;
    std::vector<double> z(d), to(d);
    const double size = length(gradient);
    for (size_t j = 0; j < d; ++j)
      z[j] = x[j] + step * (norm == Norm::linf ? (gradient[j] > 0) - (gradient[j] < 0)
                                               : gradient[j] / size);
    z = project(z);
    for (size_t j = 0; j < d; ++j) to[j] = x[j] + a * (z[j] - x[j]) + (1 - a) * (x[j] - before[j]);
    before = x;
    to = project(to);
    x = seen[k + 1];
    for (size_t j = 0; j < d; ++j) trace.apart = std::max(trace.apart, std::abs(x[j] - to[j]));
    trace.step = step;
    std::tie(loss, gradient) = look(x);
    losses.push_back(loss);
    if (loss > best_loss) {
      best_loss = loss;
      best = x;
      best_gradient = gradient;
    }
    if (++since_check < (window < windows.size() ? windows[window] : 1000)) continue;
    int rises = 0;
    for (size_t i = losses.size() - size_t(since_check); i < losses.size(); ++i)
      rises += losses[i] > losses[i - 1];
    const bool oscillates = rises <= 0.75 * since_check,
               stuck = !reduced && best_at_check >= best_loss;
    reduced = oscillates || stuck;
    best_at_check = best_loss;
    since_check = 0;
    ++window;
    if (reduced) {
      step /= 2;
      x = best;
      gradient = best_gradient;
    }
  }
  return trace;
}

// Class 0 wins by 1 + ‖m (x - peak)‖² ever, class 1 climbs to `peak`, which lies inside the ball,
// on an ill-conditioned hill: steps that are too long oscillate.
struct Hill {
  int64_t pixels;
  Tensor scales, shift;  // [pixels, pixels], [pixels]

  explicit Hill(int64_t d) : pixels(d), scales(Tensor::zeros({d, d})), shift(Tensor::zeros({d})) {
    for (int64_t j = 0; j < d; ++j) {
      const float scale = static_cast<float>(2 + 3 * j);
      scales.data_as<float>()[j * d + j] = scale;
      scales.data_as<float>()[j * d + (j + 1) % d] = 0.5f * scale;
      shift.data_as<float>()[j] = -scale * (0.75f + 0.01f * static_cast<float>(j % 3));
    }
  }
  std::pair<double, std::vector<double>> operator()(const std::vector<double>& x) const {
    const float *m = scales.data_as<float>(), *s = shift.data_as<float>();
    double value = 0;
    std::vector<double> gradient(x.size(), 0);
    for (size_t i = 0; i < x.size(); ++i) {
      double row = s[i];
      for (size_t j = 0; j < x.size(); ++j) row += m[i * x.size() + j] * x[j];
      value -= row * row;
      for (size_t j = 0; j < x.size(); ++j) gradient[j] -= 2 * row * m[i * x.size() + j];
    }
    return {value - 1, gradient};
  }
  // Appends every batch of points it sees to `seen`.
  Model model(std::vector<Tensor>& seen) const {
    return {.forward = [this, &seen](const Tensor& images, Gate) {
      seen.push_back(images.detached().clone());
      const int64_t n = images.dim(0);
      const Tensor x = cast(reshape(images, {n, -1}), Dtype::f64),  // near the peak rows cancel
          rows = linear(x, scales.to(Dtype::f64), shift.to(Dtype::f64)),
                   climb = cast(scale(sum(square(rows), 1), -1), Dtype::f32);
      return Outputs{concat({Tensor::full({n, 1}, 1), reshape(climb, {n, 1})}, 1)};
    }};
  }
};

}  // namespace

TEST_CASE("apgd: the checkpoints of 10, 20, 50 and 100 steps", "[apgd]") {
  CHECK(apgd_checkpoints(100) == std::vector<int>{22, 41, 57, 70, 80, 87, 93, 99});
  CHECK(apgd_checkpoints(50) == std::vector<int>{11, 21, 30, 38, 45});
  CHECK(apgd_checkpoints(20) ==
        std::vector<int>{4, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20});
  CHECK(apgd_checkpoints(10) == std::vector<int>{2, 3, 4, 5, 6, 7, 8, 9, 10});
  CHECK(apgd_checkpoints(1) == std::vector<int>{1});
}

TEST_CASE("apgd: every point it looks at follows from the others as in a plain float64 Auto-PGD",
          "[apgd]") {
  constexpr int64_t kImages = 12;
  const Hill hill(5);
  const Tensor ids = row_numbers(kImages),
               images = random_uniform({kImages, hill.pixels, 1, 1}, ids, {.seed = 3}, 0.4, 0.6);
  const Victims v{images, Tensor::zeros({kImages}, Dtype::i32), ids, {}};
  for (const Norm norm : {Norm::linf, Norm::l2}) {
    const double eps = norm == Norm::linf ? 0.2 : 0.35;
    std::vector<Tensor> seen;
    const AttackResult r =
        apgd(hill.model(seen), v, {.threat = {norm, eps}, .objective = {.loss = Loss::margin}});
    CHECK(r.fooled_at == std::vector<int>(kImages, -1));
    REQUIRE(seen.size() == 101);
    std::vector<int> halvings;
    for (int64_t i = 0; i < kImages; ++i) {
      INFO("norm " << int(norm) << ", image " << i);
      const auto row = [&](const Tensor& points) {
        const auto all = points.to_vector<float>();
        return std::vector<double>(all.begin() + i * hill.pixels,
                                   all.begin() + (i + 1) * hill.pixels);
      };
      std::vector<std::vector<double>> points;
      for (const Tensor& batch : seen) points.push_back(row(batch));
      const Trace trace = plain_apgd(points, row(images), norm, eps, hill);
      CHECK(trace.apart < 1e-6);
      halvings.push_back(static_cast<int>(std::lround(std::log2(2 * eps / trace.step))));
    }
    // The trace says something: several halvings, not all of them possible, nor the same for all.
    CHECK(*std::max_element(halvings.begin(), halvings.end()) >= 5);
    CHECK(*std::min_element(halvings.begin(), halvings.end()) >= 2);
    CHECK(*std::min_element(halvings.begin(), halvings.end()) < 8);
  }
}

}  // namespace moat::tests
