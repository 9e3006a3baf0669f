#include "tests/broken_models.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>

#include "data/digits.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/linalg.h"
#include "engine/ops/loss.h"
#include "engine/ops/reduce.h"
#include "engine/ops/shape.h"
#include "engine/random.h"
#include "tests/models_fixture.h"
#include "train/methods.h"
#include "train/objective.h"

namespace moat::tests {

using namespace engine;
using attacks::Gate;
using attacks::Model;
using attacks::Outputs;

namespace {

data::Batch rows_of(const data::ImageSet& set, int64_t from, int64_t to) {
  std::vector<int32_t> rows(static_cast<size_t>(std::min(to, set.size()) - from));
  std::iota(rows.begin(), rows.end(), static_cast<int32_t>(from));
  return data::batch_of(set, rows);
}

// `change` of the pixels, before the model.
template <class Change>
Model before(const Model& model, Change change) {
  Model broken = model;
  broken.forward = [forward = model.forward, change](const Tensor& images, Gate gate) {
    return forward(change(images), gate);
  };
  return broken;
}
// `change` of the logits, behind it.
template <class Change>
Model behind(const Model& model, Change change) {
  Model broken = model;
  broken.forward = [forward = model.forward, change](const Tensor& images, Gate gate) {
    Outputs out = forward(images, gate);
    out.logits = change(out.logits);
    return out;
  };
  return broken;
}

// The values of f at each of x, without a gradient.
template <class F>
Tensor mapped(const Tensor& x, F f) {
  std::vector<float> values = x.to_vector<float>();
  for (float& v : values) v = f(v);
  return Tensor::from(values, x.shape(), x.device());
}

// The gradient of x where mask is 1, its values everywhere.
Tensor gradient_where(const Tensor& x, const Tensor& mask) {
  return add(mul(x, mask), mul(x.detached(), affine(mask, -1, 1)));
}

}  // namespace

models::ClassifierSettings dense_on_digits() {
  models::ClassifierSettings s = tiny_dense();
  s.channels = 1;
  s.classes = 10;
  s.widths = {16, 32};
  s.stem_width = 16;
  s.init = models::Init::uniform;
  return s;
}

models::ClassifierSettings routed_on_digits() {
  models::ClassifierSettings s = tiny_moe(2);
  s.channels = 1;
  s.classes = 10;
  s.widths = {16, 32};
  s.stem_width = 16;
  s.ratio = 0.75;
  s.init = models::Init::uniform;
  return s;
}

TrainedDigits::TrainedDigits(const models::ClassifierSettings& settings) : learner(settings, 3) {
  const data::ImageSet set = data::digits(data::Split::train);
  train::TrainSettings how;
  how.steps = 3;
  constexpr int kEpochs = 8, kBatch = 64;
  int64_t iteration = 0;
  for (int epoch = 0; epoch < kEpochs; ++epoch) {
    const double rate = 0.1 * (1 - double(epoch) / kEpochs);
    for (int64_t from = 0; from + kBatch <= set.size(); from += kBatch)
      train::at_step(learner, rows_of(set, from, from + kBatch),
                     {.train = how,
                      .seed = 1,
                      .epoch = epoch,
                      .iteration = iteration++,
                      .learning_rate = rate,
                      .router_learning_rate = rate});
  }
  const data::Batch test = rows_of(data::digits(data::Split::test), 0, 100);
  victims = {test.images, test.labels, test.ids, {}};
}

Model TrainedDigits::model() const { return train::attack_model(learner.model); }

Model zero_gradient(const Model& model) {
  return before(model, [](const Tensor& x) { return x.detached(); });
}

Model reversed_gradient(const Model& model) {
  return behind(model, [](const Tensor& z) { return sub(scale(z.detached(), 2), z); });
}

Model sparse_gradient(const Model& model) {
  return before(model, [pass = std::make_shared<uint32_t>(0)](const Tensor& x) {
    const Tensor ids = row_numbers(x.dim(0));
    const Tensor u = random_uniform(x.shape(), ids, {.seed = 8, .iteration = ++*pass}, 0, 1);
    return gradient_where(x, mapped(u, [](float v) { return v < 0.1f ? 1.f : 0.f; }));
  });
}

Model gradient_on_lattice(const Model& model) {
  return before(model, [](const Tensor& x) {
    return gradient_where(x, mapped(x, [](float v) { return v * 16 == std::round(v * 16); }));
  });
}

Model quantised(const Model& model, Rounding rounding) {
  return before(model, [rounding](const Tensor& x) {
    const Tensor rounded = mapped(x, [](float v) { return std::round(v * 4) / 4; });
    if (rounding == Rounding::without_gradient) return rounded;
    return add(x, sub(rounded, x.detached()));
  });
}

Model scaled_logits(const Model& model, double factor) {
  return behind(model, [factor](const Tensor& z) { return scale(z, factor); });
}

Model softmax_head(const Model& model) {
  return behind(model, [](const Tensor& z) { return softmax(z); });
}

Model winners_take_all(const Model& model, int units, int k) {
  const Tensor there =
      random_normal({units, 64}, row_numbers(units), {.seed = 12}, 0, 1 / std::sqrt(double(units)));
  const Tensor back = permute(there, {1, 0});
  return before(model, [=](const Tensor& x) {
    const Tensor flat = reshape(x, {x.dim(0), 64}), c = linear(flat, there, {});
    std::vector<float> winners = c.to_vector<float>();
    for (auto row = winners.begin(); row != winners.end(); row += units) {
      std::vector<float> sizes(row, row + units);
      for (float& v : sizes) v = std::abs(v);
      std::nth_element(sizes.begin(), sizes.begin() + k - 1, sizes.end(), std::greater<>());
      const float least = sizes[static_cast<size_t>(k - 1)];
      for (auto v = row; v != row + units; ++v) *v = std::abs(*v) >= least ? 1.f : 0.f;
    }
    const Tensor seen = linear(mul(c, Tensor::from(winners, c.shape())), back, {});
    // As much of the image as there was.
    const Tensor part = div(sum(mul(flat, seen), 1), affine(sum(square(flat), 1), 1, 1e-6));
    const Tensor gain = div(Tensor::full(part.shape(), 1), affine(part.detached(), 1, 1e-6));
    return reshape(mul(seen, reshape(gain, {x.dim(0), 1})), x.shape());
  });
}

Model noisy_input(const Model& model, double deviation) {
  return before(model, [deviation, pass = std::make_shared<uint32_t>(0)](const Tensor& x) {
    const Tensor ids = row_numbers(x.dim(0));
    return add(x, random_normal(x.shape(), ids, {.seed = 8, .iteration = ++*pass}, 0, deviation));
  });
}

Model not_finite_on_white(const Model& model) {
  Model broken = model;
  broken.forward = [forward = model.forward](const Tensor& x, Gate gate) {
    Outputs out = forward(x, gate);
    const Tensor brightness = reshape(mean(reshape(x, {x.dim(0), -1}), 1), {x.dim(0), 1});
    out.logits = add(out.logits, scale(log(affine(brightness, -1, 1)), 0));  // 0 · log 0
    return out;
  };
  return broken;
}

Model two_experts(const Model& model, Routing routing) {
  // A direction that no image prefers: rows of pixels of alternating sign.
  std::vector<float> direction;
  for (int p = 0; p < 64; ++p) direction.push_back(p / 8 % 2 ? 0.25f : -0.25f);
  const Tensor w = Tensor::from(direction, {1, 64});
  Model routed = model;
  routed.routed = true;
  routed.routes = 2;
  routed.along = {};
  routed.forward = [=, forward = model.forward](const Tensor& x, Gate gate) {
    const Tensor z = forward(x, gate).logits;
    const int64_t n = x.dim(0);
    Tensor score = linear(reshape(x, {n, 64}), w, {});  // [n, 1]
    if (routing == Routing::shattered) {
      score = affine(score, 64, 0.3);  // not at the kink of a fold, where lattice pixels would be
      for (double fold = 32; fold >= 0.25; fold /= 2) score = affine(abs(score), 1, -fold);
    }
    if (routing == Routing::by_class) {
      std::vector<float> parity;
      for (int k = 0; k < 10; ++k) parity.push_back(k % 2 ? -1.f : 1.f);
      score = linear(exp(scale(z, 3)), Tensor::from(parity, {1, 10}), {});
    }
    if (routing == Routing::without_gradient) score = score.detached();
    const Tensor scores = concat({score, scale(score, -1)}, 1);
    const Tensor experts = argmax(scores, 1);
    // The second expert's logits are three quarters of the first one's.
    const std::vector<int32_t> route = experts.to_vector<int32_t>();
    std::vector<float> factors, gates;
    int64_t taken[2] = {0, 0};
    for (int32_t r : route) {
      const bool is_late = routing == Routing::limited && ++taken[r] > (n + 1) / 2;
      factors.push_back(is_late ? 0 : r == 0 ? 1.f : 0.75f);
      gates.push_back(r == 0 ? 1.f : -1.f);
    }
    Tensor logits = mul(z, Tensor::from(factors, {n, 1}));
    if (gate == Gate::open && routing != Routing::without_gradient) {
      // A gate of value 1 whose gradient is that of the chosen score.
      const Tensor chosen = mul(score, Tensor::from(gates, {n, 1}));
      logits = mul(logits, affine(sub(chosen, chosen.detached()), 1, 1));
    }
    return Outputs{logits, experts, scores};
  };
  return routed;
}

}  // namespace moat::tests
