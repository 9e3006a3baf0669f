#include "attacks/pgd.h"

#include <numeric>

#include "engine/ops/elementwise.h"
#include "engine/ops/keep_worst.h"
#include "engine/ops/reduce.h"
#include "engine/ops/shape.h"
#include "engine/random.h"
#include "engine/tape.h"

namespace moat::attacks {

using namespace engine;

const char* name_of(Start start) {
  switch (start) {
    case Start::center:
      return "center";
    case Start::uniform:
      return "uniform in ball and box";
    case Start::gaussian:
      return "0.001 N(0,1)";
  }
  return "unknown";
}

Pgd fgsm(const ThreatModel& threat) {
  return {.threat = threat, .steps = 1, .step = threat.eps, .start = Start::center};
}

namespace {

Tensor zeros_like(const Tensor& x) { return Tensor::zeros(x.shape(), x.dtype(), x.device()); }

Tensor per_image(const Tensor& values, const Tensor& images) {  // [n] -> [n, 1, 1, 1]
  Shape s = Shape::of_rank(images.rank(), 1);
  s[0] = values.dim(0);
  return values.reshaped(s);
}

// Uniform in the L2 ball: a normal direction times a radius with density ~ r^(d-1).
Tensor l2_start(const Victims& v, const Pgd& a, const RandomKey& key) {
  const Shape& shape = v.images.shape();
  const int64_t n = shape[0], d = n ? v.images.size() / n : 0;
  const Tensor direction = random_normal(shape, v.ids, key, 0, 1);
  const Tensor length = sqrt(sum(square(direction).reshaped({n, d}), 1));
  RandomKey radius_key = key;
  radius_key.purpose = Purpose::attack_noise;
  const Tensor part = random_uniform({n, 1}, v.ids, radius_key, 0, 1).reshaped({n});
  const Tensor radius = scale(exp(scale(log(part), 1 / static_cast<double>(d))), a.threat.eps);
  return add(v.images, mul(direction, per_image(div(radius, length), v.images)));
}

Tensor start_point(const Victims& v, const Pgd& a, int restart) {
  const RandomKey key{.seed = a.seed,
                      .purpose = Purpose::attack_start,
                      .iteration = a.iteration,
                      .stream = static_cast<uint32_t>(restart)};
  const double eps = a.threat.eps;
  Tensor x = v.images;
  if (a.start == Start::gaussian) {
    x = add(x, random_normal(x.shape(), v.ids, key, 0, 0.001));
  } else if (a.start == Start::uniform && a.threat.norm == Norm::linf) {
    const Tensor low = clamp(affine(x, 1, -eps), 0, 1), high = clamp(affine(x, 1, eps), 0, 1);
    x = add(low, mul(random_uniform(x.shape(), v.ids, key, 0, 1), sub(high, low)));
  } else if (a.start == Start::uniform) {
    x = l2_start(v, a, key);
  }
  return ball_project(x, v.images, a.threat.norm, eps);
}

struct Probe {
  Tensor logits, loss, gradient;
};

Probe with_gradient(const Model& model, const Tensor& x, const Victims& v, const Pgd& a) {
  Tape tape;
  const Tensor pixels = tape.watch(x);
  const Tensor logits = model.forward(pixels, a.gate).logits;
  const Tensor loss = loss_of(a.loss, logits, v);
  const Tensor gradient =
      tape.gradients(loss, Tensor::full(loss.shape(), 1, loss.dtype(), loss.device())).of(pixels);
  return {logits, loss, gradient.defined() ? gradient : zeros_like(x)};
}

Probe without_gradient(const Model& model, const Tensor& x, const Victims& v, const Pgd& a) {
  const NoTapeScope not_recorded;
  const Tensor logits = model.forward(x, a.gate).logits;
  return {logits, loss_of(a.loss, logits, v), {}};
}

// The positions among `rows` of the images that still resist.
std::vector<int32_t> resisting(const std::vector<int32_t>& rows, const WorstPoints& worst) {
  const std::vector<int32_t> fooled_at = worst.fooled_at.to_vector<int32_t>();
  std::vector<int32_t> positions;
  for (size_t i = 0; i < rows.size(); ++i)
    if (fooled_at[static_cast<size_t>(rows[i])] < 0) positions.push_back(static_cast<int32_t>(i));
  return positions;
}

std::vector<int32_t> all_rows(int64_t n) {
  std::vector<int32_t> rows(static_cast<size_t>(n));
  std::iota(rows.begin(), rows.end(), 0);
  return rows;
}

BallStep ball_of(const Pgd& a) {
  return {.norm = a.threat.norm, .eps = a.threat.eps, .step = a.step, .momentum = a.momentum};
}

PgdResult keep_last(const Model& model, const Victims& v, const Pgd& a) {
  PgdResult result;
  Tensor x = start_point(v, a, 0);
  const Tensor velocity = a.momentum > 0 ? zeros_like(x) : Tensor{};
  for (int i = 0; i < a.steps; ++i)
    x = ball_step(x, with_gradient(model, x, v, a).gradient, v.images, ball_of(a), velocity);
  result.adversarial = x;
  result.forwards = result.backwards = a.steps * v.size();
  return result;
}

}  // namespace

PgdResult pgd(const Model& model, const Victims& victims, const Pgd& a) {
  require(a.steps >= 0 && a.restarts >= 1 && a.threat.eps >= 0,
          "pgd: steps must be >= 0, restarts >= 1 and eps >= 0");
  if (a.keep == Keep::last) return keep_last(model, victims, a);
  PgdResult result;
  const WorstPoints worst = worst_points(victims.images);
  const Device device = victims.images.device();
  for (int restart = 0; restart < a.restarts; ++restart) {
    std::vector<int32_t> rows =
        rounded_up(resisting(all_rows(victims.size()), worst), victims.size(), device);
    Tensor at = index_of(rows, device);
    Victims v = victims.rows(rows);
    Tensor x = start_point(v, a, restart);
    Tensor velocity = a.momentum > 0 ? zeros_like(x) : Tensor{};
    for (int i = 0; i <= a.steps && !rows.empty(); ++i) {
      const bool is_last = i == a.steps;
      const Probe p = is_last ? without_gradient(model, x, v, a) : with_gradient(model, x, v, a);
      result.forwards += v.size();
      result.backwards += is_last ? 0 : v.size();
      const Tensor left = keep_worst(worst, x, at, argmax(p.logits, 1), victims.labels, p.loss,
                                     restart * (a.steps + 1) + i);
      if (is_last) break;
      x = ball_step(x, p.gradient, v.images, ball_of(a), velocity);
      // Fooled images leave the batch when they are a quarter of it.
      if (4 * (v.size() - left.to_vector<int32_t>()[0]) < v.size()) continue;
      const std::vector<int32_t> still = rounded_up(resisting(rows, worst), v.size(), device);
      if (std::ssize(still) == v.size()) continue;
      const Tensor kept = index_of(still, device);
      v = v.rows(still);
      x = gather_rows(x, kept);
      if (velocity.defined()) velocity = gather_rows(velocity, kept);
      at = gather_rows(at, kept);
      std::vector<int32_t> resist;
      resist.reserve(still.size());
      for (int32_t position : still) resist.push_back(rows[static_cast<size_t>(position)]);
      rows = std::move(resist);
    }
  }
  result.adversarial = worst.points;
  result.fooled_at = worst.fooled_at.to_vector<int32_t>();
  return result;
}

}  // namespace moat::attacks
