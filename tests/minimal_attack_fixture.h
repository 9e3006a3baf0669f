#pragma once

// What the tests of minimal-norm attacks share: a linear model whose boundaries are known, what a
// model was asked, and the checks of every attack's result.

#include <catch2/catch.hpp>

#include "attacks/nearest.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/linalg.h"
#include "engine/ops/reduce.h"
#include "engine/ops/shape.h"
#include "engine/tape.h"
#include "tests/attack_fixture.h"
#include "tests/box_plane_reference.h"
#include "tests/models_fixture.h"
#include "train/objective.h"

namespace moat::tests {

// z_0 = 0 and z_k = <w_k, x> + b_k, in float64 until the end, so that the sign of a logit is
// right to float64 at every float32 point. Class 0 is the label.
struct LinearScene {
  static constexpr int64_t kPixels = 4 * 4 * 3;
  int64_t classes;
  engine::Tensor weight, bias;  // float64 [classes, kPixels], [classes]
  attacks::Victims victims;

  // Pixels in [low, high]; b_k puts boundary k `far` · (1 + k) / 2 or so away from the middle of
  // the box, in units of ‖w_k‖₁.
  LinearScene(int64_t n, int64_t k, double low, double high, double far) : classes(k) {
    using namespace engine;
    weight = random_normal({k, kPixels}, row_numbers(k), {.seed = 21}, 0, 1, Dtype::f64);
    bias = Tensor::zeros({k}, Dtype::f64);
    double* w = weight.data_as<double>();
    for (int64_t i = 0; i < kPixels; ++i) w[i] = 0;
    for (int64_t c = 1; c < k; ++c) {
      double sum = 0, size = 0;
      for (int64_t i = 0; i < kPixels; ++i) {
        sum += w[c * kPixels + i];
        size += std::abs(w[c * kPixels + i]);
      }
      bias.data_as<double>()[c] = -sum / 2 - far * double(1 + c) / 2 * size;
    }
    const Tensor images = random_uniform({n, 4, 4, 3}, row_numbers(n), {.seed = 22}, low, high);
    victims = {images, Tensor::zeros({n}, Dtype::i32), row_numbers(n), {}};
  }

  attacks::Model model() const {
    return {.forward = [this](const engine::Tensor& x, attacks::Gate) {
      using namespace engine;
      const Tensor flat = reshape(cast(x, Dtype::f64), {x.dim(0), kPixels});
      return attacks::Outputs{cast(linear(flat, weight, bias), Dtype::f32)};
    }};
  }

  // The distance of image i from the nearest boundary within the box; infinity beyond it.
  double distance(int64_t i, engine::Norm norm) const {
    double least = std::numeric_limits<double>::infinity();
    std::vector<double> x;
    for (int64_t p = 0; p < kPixels; ++p)
      x.push_back(double{victims.images.data_as<float>()[i * kPixels + p]});
    for (int64_t c = 1; c < classes; ++c) {
      const double* row = weight.data_as<double>() + c * kPixels;
      double z = bias.data_as<double>()[c];
      for (size_t p = 0; p < x.size(); ++p) z += row[p] * x[p];
      const LeastMove move = least_move(x, {row, row + kPixels}, z, norm);
      if (move.reaches) least = std::min(least, norm_of(move.move, norm));
    }
    return least;
  }
};

// A model that counts the images that it sees and those that are differentiated, and remembers the
// points of each call.
struct Watched {
  int64_t forwards = 0, backwards = 0;
  engine::Tensors points = {};

  attacks::Model model(const attacks::Model& inner) {
    attacks::Model out = inner;
    out.forward = [this, inner](const engine::Tensor& x, attacks::Gate gate) {
      forwards += x.dim(0);
      points.push_back(x.detached());
      attacks::Outputs seen = inner.forward(x, gate);
      seen.logits = engine::recorded("watched", {seen.logits}, seen.logits.detached(),
                                     [this](const engine::Tensors& d, const engine::Needs&) {
                                       backwards += d[0].dim(0);
                                       return d;
                                     });
      return seen;
    };
    return out;
  }
};

// A small routed classifier on random images, labelled as it sees them.
struct RoutedScene {
  models::Classifier classifier;
  attacks::Victims victims;

  explicit RoutedScene(int64_t n) : classifier(tiny_moe(2), 3) {
    using namespace engine;
    stir(classifier);
    const Tensor images = random_images(n, classifier.settings());
    balance_router(classifier, images, {0, 0}, Mode::eval);
    const Tensor average = mean(classifier.forward(images, Mode::eval).logits, 0);
    for (const NamedTensor& t : state_of(classifier))  // no class is everyone's favourite
      if (t.name == "fc.bias") t.value->copy_from(sub(*t.value, average));
    victims = {
        images, argmax(classifier.forward(images, Mode::eval).logits, 1), row_numbers(n), {}};
  }
  attacks::Model model() const { return train::attack_model(classifier); }
};

// In float64, of the points as they are stored.
inline void check_in_ball_and_box(const engine::Tensor& adversarial, const engine::Tensor& images,
                                  const attacks::ThreatModel& threat) {
  const auto y = adversarial.to_vector<float>(), x = images.to_vector<float>();
  const size_t pixels = x.size() / static_cast<size_t>(images.dim(0));
  int64_t outside = 0;
  for (size_t i = 0; i < x.size(); i += pixels) {
    std::vector<double> offset;
    for (size_t p = i; p < i + pixels; ++p) {
      offset.push_back(double{y[p]} - x[p]);
      outside += !(y[p] >= 0 && y[p] <= 1);
    }
    const double slack = threat.norm == engine::Norm::l2 ? 1 + 1e-6 : 1;
    outside += !(norm_of(offset, threat.norm) <= threat.eps * slack);
  }
  CHECK(outside == 0);
}

// What `fooled_at` says is what the model says.
inline void check_verdicts(const attacks::Model& model, const attacks::Victims& v,
                           const attacks::AttackResult& r) {
  const auto predicted = engine::argmax(model.forward(r.adversarial, attacks::Gate::open).logits, 1)
                             .to_vector<int32_t>(),
             labels = v.labels.to_vector<int32_t>();
  for (size_t i = 0; i < labels.size(); ++i)
    CHECK((predicted[i] != labels[i]) == (r.fooled_at[i] >= 0));
}

// attack(victims) gives an image the same bits in batches of 1, 7 and all, and in another order.
template <class Attack>
void check_own_result(const attacks::Victims& victims, const attacks::AttackResult& whole,
                      Attack&& attack) {
  using namespace engine;
  const auto n = static_cast<int32_t>(victims.size());
  std::vector<std::vector<int32_t>> batches = {{}, {0}, {n / 2}, {n - 1}, {}, {}};
  for (int32_t i = 0; i < n; ++i) batches[0].push_back((i * 77 + 5) % n);  // 77: prime to 256
  for (int32_t i = 0; i < 7; ++i) {
    batches[4].push_back(i);
    batches[5].push_back((i * 31 + 100) % n);
  }
  for (const std::vector<int32_t>& rows : batches) {
    INFO("a batch of " << rows.size() << " from row " << rows[0]);
    const attacks::AttackResult part = attack(victims.rows(rows));
    CHECK(gather_rows(whole.adversarial, attacks::index_of(rows)).to_vector<float>() ==
          part.adversarial.to_vector<float>());
    std::vector<int> expected;
    for (int32_t row : rows) expected.push_back(whole.fooled_at[static_cast<size_t>(row)]);
    CHECK(expected == part.fooled_at);
  }
}

}  // namespace moat::tests
