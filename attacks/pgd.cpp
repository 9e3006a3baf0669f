#include "attacks/pgd.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/ops/elementwise.h"
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
  Tensor radius = random_uniform({n, 1}, v.ids, radius_key, 0, 1).reshaped({n});
  for (int64_t i = 0; i < n; ++i) {
    float& r = radius.data_as<float>()[i];
    r = static_cast<float>(a.threat.eps * std::pow(double(r), 1.0 / double(d)));
  }
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
      tape.gradients(loss, Tensor::full(loss.shape(), 1, loss.dtype())).of(pixels);
  return {logits, loss, gradient.defined() ? gradient : Tensor::zeros(x.shape())};
}

Probe without_gradient(const Model& model, const Tensor& x, const Victims& v, const Pgd& a) {
  const NoTapeScope not_recorded;
  const Tensor logits = model.forward(x, a.gate).logits;
  return {logits, loss_of(a.loss, logits, v), {}};
}

// Remembers the worst point of every image while fooled images leave the batch.
class Worst {
 public:
  Worst(const Victims& all, PgdResult& result) : all_(all), result_(result) {
    result_.adversarial = all.images.clone();
    result_.fooled_at.assign(static_cast<size_t>(all.size()), -1);
    best_loss_.assign(static_cast<size_t>(all.size()), -std::numeric_limits<float>::infinity());
  }

  std::vector<int32_t> survivors() const {
    std::vector<int32_t> rows;
    for (int32_t i = 0; i < all_.size(); ++i)
      if (result_.fooled_at[static_cast<size_t>(i)] < 0) rows.push_back(i);
    return rows;
  }

  // Looks at iterate `number` of the images `rows`; returns how many of them are fooled by now.
  int64_t look(const std::vector<int32_t>& rows, const Tensor& x, const Probe& p, int number) {
    const auto predicted = argmax(p.logits, 1).to_vector<int32_t>();
    const auto loss = p.loss.to_vector<float>();
    const int32_t* labels = all_.labels.data_as<int32_t>();
    const int64_t pixels = x.size() / std::max<int64_t>(1, x.dim(0));
    const Tensor points = x.contiguous();
    int64_t fooled = 0;
    for (size_t i = 0; i < rows.size(); ++i) {
      const auto row = static_cast<size_t>(rows[i]);
      if (result_.fooled_at[row] < 0) {
        const bool wrong = predicted[i] != labels[row];
        if (wrong) result_.fooled_at[row] = number;
        if (wrong || loss[i] > best_loss_[row]) {
          best_loss_[row] = loss[i];
          std::copy_n(points.data_as<float>() + static_cast<int64_t>(i) * pixels, pixels,
                      result_.adversarial.data_as<float>() + rows[i] * pixels);
        }
      }
      fooled += result_.fooled_at[row] >= 0;
    }
    return fooled;
  }

 private:
  const Victims& all_;
  PgdResult& result_;
  std::vector<float> best_loss_;
};

// The positions of `rows` that still resist.
std::vector<int32_t> resisting(const std::vector<int32_t>& rows, const PgdResult& result) {
  std::vector<int32_t> positions;
  for (size_t i = 0; i < rows.size(); ++i)
    if (result.fooled_at[static_cast<size_t>(rows[i])] < 0)
      positions.push_back(static_cast<int32_t>(i));
  return positions;
}

BallStep ball_of(const Pgd& a) {
  return {.norm = a.threat.norm, .eps = a.threat.eps, .step = a.step, .momentum = a.momentum};
}

PgdResult keep_last(const Model& model, const Victims& v, const Pgd& a) {
  PgdResult result;
  Tensor x = start_point(v, a, 0);
  const Tensor velocity = a.momentum > 0 ? Tensor::zeros(x.shape()) : Tensor{};
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
  Worst worst(victims, result);
  for (int restart = 0; restart < a.restarts; ++restart) {
    std::vector<int32_t> rows = worst.survivors();
    Victims v = victims.rows(rows);
    Tensor x = start_point(v, a, restart);
    Tensor velocity = a.momentum > 0 ? Tensor::zeros(x.shape()) : Tensor{};
    for (int i = 0; i <= a.steps && !rows.empty(); ++i) {
      const bool is_last = i == a.steps;
      const Probe p = is_last ? without_gradient(model, x, v, a) : with_gradient(model, x, v, a);
      result.forwards += v.size();
      result.backwards += is_last ? 0 : v.size();
      const int64_t fooled = worst.look(rows, x, p, restart * (a.steps + 1) + i);
      if (is_last) break;
      x = ball_step(x, p.gradient, v.images, ball_of(a), velocity);
      if (4 * fooled < v.size()) continue;
      const std::vector<int32_t> still = resisting(rows, result);
      const Tensor at = index_of(still);
      v = v.rows(still);
      x = gather_rows(x, at);
      if (velocity.defined()) velocity = gather_rows(velocity, at);
      std::vector<int32_t> left;
      left.reserve(still.size());
      for (int32_t position : still) left.push_back(rows[static_cast<size_t>(position)]);
      rows = std::move(left);
    }
  }
  return result;
}

}  // namespace moat::attacks
