#include <catch2/catch.hpp>
#include <functional>
#include <nlohmann/json.hpp>

#include "attacks/objective.h"
#include "tests/linear_moe.h"

// The gradients of what attacks on mixtures climb, in float64 against finite differences of plain
// loops.

namespace moat::tests {

using namespace engine;
using namespace attacks;
using attacks::Gate;
using Numbers = LinearMoe::Numbers;

namespace {

constexpr int kImages = 5, kPixels = 4, kClasses = 3, kExperts = 3;

struct Setting {
  LinearMoe moe = random_linear_moe(kPixels, kClasses, kExperts);
  Model model = moe.model();
  Victims victims;
  Tensor points;
  Setting() {
    const auto draw = [](uint32_t stream) {
      return random_uniform({kImages, 1, 1, kPixels}, row_numbers(kImages),
                            {.seed = 8, .stream = stream}, 0, 1, Dtype::f64);
    };
    victims = {draw(1), random_labels(kImages, kClasses), row_numbers(kImages), {}};
    victims.routes = Tensor::from(std::vector<int32_t>{0, 1, 2, 1, 0}, {kImages});
    points = draw(2);
  }
  int label(int64_t i) const { return victims.labels.data_as<int32_t>()[i]; }
  int given(int64_t i) const { return victims.routes.data_as<int32_t>()[i]; }
};

double cross_entropy_of(const Numbers& z, int label) {
  double sum = 0;
  for (double v : z) sum += std::exp(v);
  return std::log(sum) - z[size_t(label)];
}

double margin_of(const Numbers& z, int label) {
  double most = -1e300;
  for (size_t c = 0; c < z.size(); ++c)
    if (int(c) != label) most = std::max(most, z[c]);
  return most - z[size_t(label)];
}

Numbers softmax_of(Numbers z) {
  double sum = 0;
  for (double& v : z) sum += v = std::exp(v);
  for (double& v : z) v /= sum;
  return z;
}

Numbers mixed(const LinearMoe& moe, const Numbers& x, const Numbers& weights) {
  Numbers z(kClasses, 0.0);
  for (int e = 0; e < kExperts; ++e) {
    const Numbers part = moe.logits(x, e);
    for (size_t c = 0; c < z.size(); ++c) z[c] += weights[size_t(e)] * part[c];
  }
  return z;
}

Numbers slope(const std::function<double(const Numbers&)>& f, Numbers x) {
  constexpr double kStep = 1e-5;
  Numbers g;
  for (double& v : x) {
    const double at = v;
    v = at + kStep;
    const double up = f(x);
    v = at - kStep;
    g.push_back((up - f(x)) / (2 * kStep));
    v = at;
  }
  return g;
}

Numbers normed(Numbers g, double times) {
  double mean = 0;
  for (double v : g) mean += std::abs(v) / double(g.size());
  for (double& v : g) v *= times / mean;
  return g;
}

// The loss of the objective at x for image i, and its slope.
struct Expected {
  double value;
  Numbers gradient;
};

Expected expected_loss(const Setting& s, const Objective& o, int64_t i, const Numbers& x) {
  const LinearMoe& moe = s.moe;
  const auto loss = [&](const Numbers& z) {
    return o.loss == Loss::margin ? margin_of(z, s.label(i)) : cross_entropy_of(z, s.label(i));
  };
  const Numbers fixed = softmax_of(moe.scores(x)), image = image_of(s.victims.images, i);
  const auto soft = [&](const Numbers& p) {
    const Numbers weights = o.gate == Gate::open ? softmax_of(moe.scores(p)) : fixed;
    return mixed(moe, o.path == Path::soft_router ? image : p, weights);
  };
  const auto at = [&](auto logits) {
    const auto f = [&](const Numbers& p) { return loss(logits(p)); };
    return Expected{f(x), slope(f, x)};
  };
  switch (o.path) {
    case Path::own:
      return at([&](const Numbers& p) { return moe.logits(p, moe.route(p)); });
    case Path::given:
      return at([&](const Numbers& p) { return moe.logits(p, s.given(i)); });
    case Path::soft:
    case Path::soft_router:
      return at(soft);
    case Path::soft_backward: {
      const Numbers z = moe.logits(x, moe.route(x)), d_z = slope(loss, z);
      Numbers gradient(kPixels, 0.0);
      for (size_t c = 0; c < z.size(); ++c) {
        const Numbers part = slope([&](const Numbers& p) { return soft(p)[c]; }, x);
        for (size_t j = 0; j < part.size(); ++j) gradient[j] += d_z[c] * part[j];
      }
      return {loss(z), gradient};
    }
  }
  throw Error("unknown path");
}

Expected expected(const Setting& s, const Objective& o, int64_t i) {
  const Numbers x = image_of(s.points, i);
  const double sign = o.steer == Steer::away ? 1 : -1;
  const auto router = [&](const Numbers& p) {
    return sign * margin_of(s.moe.scores(p), s.given(i));
  };
  if (o.climbed == Climbed::router) return {router(x), slope(router, x)};
  Expected e = expected_loss(s, o, i, x);
  if (o.climbed == Climbed::loss) return e;
  const Numbers a = normed(e.gradient, 1), b = normed(slope(router, x), o.lambda);
  for (size_t j = 0; j < a.size(); ++j) e.gradient[j] = a[j] + b[j];
  return {e.value + o.lambda * router(x), e.gradient};
}

void check(const Setting& s, const Objective& o) {
  INFO(constants_of(o).dump());
  const Probe probe = with_gradient(s.model, s.points, s.victims, o);
  const auto loss = probe.loss.to_vector<double>();
  const auto gradient = probe.gradient.to_vector<double>();
  const auto predicted = probe.predicted.to_vector<int32_t>();
  const Probe plain = without_gradient(s.model, s.points, s.victims, o);
  CHECK(plain.loss.to_vector<double>() == loss);
  CHECK(plain.predicted.to_vector<int32_t>() == predicted);
  CHECK_FALSE(plain.gradient.defined());
  for (int64_t i = 0; i < kImages; ++i) {
    const Expected e = expected(s, o, i);
    CHECK(loss[size_t(i)] == Approx(e.value).epsilon(1e-12));
    for (size_t j = 0; j < kPixels; ++j)
      CHECK(gradient[size_t(i) * kPixels + j] == Approx(e.gradient[j]).epsilon(1e-6).margin(1e-8));
    // The verdict is the model's own, whatever is climbed.
    const Numbers x = image_of(s.points, i), z = s.moe.logits(x, s.moe.route(x));
    CHECK(predicted[size_t(i)] == std::max_element(z.begin(), z.end()) - z.begin());
  }
}

constexpr Path kPaths[] = {Path::own, Path::given, Path::soft, Path::soft_backward,
                           Path::soft_router};

}  // namespace

TEST_CASE("objective: the loss along every path", "[attacks][objective]") {
  const Setting s;
  for (Path path : kPaths)
    for (Loss loss : {Loss::cross_entropy, Loss::margin})
      for (Gate gate : {Gate::open, Gate::blocked})
        if (path != Path::soft_router || gate != Gate::blocked)  // where nothing depends
          check(s, {.loss = loss, .gate = gate, .path = path});
}

TEST_CASE("objective: the router's margin, alone and beside the loss", "[attacks][objective]") {
  const Setting s;
  for (Steer steer : {Steer::away, Steer::towards}) {
    check(s, {.climbed = Climbed::router, .steer = steer});
    for (Path path : kPaths)
      for (double lambda : {0.1, 6.0})
        check(s, {.path = path, .climbed = Climbed::both, .steer = steer, .lambda = lambda});
  }
}

TEST_CASE("objective: a term without a slope leaves the other", "[attacks][objective]") {
  Setting s;
  std::fill(s.moe.router_weight.begin(), s.moe.router_weight.end(), 0.0);
  const auto gradient = [&](const Objective& o) {
    return with_gradient(s.model, s.points, s.victims, o).gradient.to_vector<double>();
  };
  const auto joint = gradient({.climbed = Climbed::both}), alone = gradient({});
  for (size_t i = 0; i < joint.size(); i += kPixels) {
    const Numbers expected =
        normed({alone.begin() + long(i), alone.begin() + long(i) + kPixels}, 1);
    for (size_t j = 0; j < kPixels; ++j) CHECK(joint[i + j] == Approx(expected[j]));
  }
  CHECK(gradient({.climbed = Climbed::router}) == Numbers(joint.size(), 0.0));
}

TEST_CASE("objective: auxiliary losses are added to the loss", "[attacks][objective]") {
  Setting s;
  const auto look = [&](double auxiliary) {
    return with_gradient(s.model, s.points, s.victims, {.auxiliary = auxiliary});
  };
  CHECK_THROWS_WITH(look(1), Catch::Contains("a model that has some"));
  s.model.auxiliary = [](const Tensor& images) {
    return sum(square(reshape(images, {images.dim(0), kPixels})), 1);
  };
  const Probe plain = look(0), probe = look(0.5);
  const auto x = s.points.to_vector<double>();
  for (size_t i = 0; i < kImages; ++i) {
    double squares = 0;
    for (size_t j = i * kPixels; j < (i + 1) * kPixels; ++j) {
      squares += x[j] * x[j];
      CHECK(probe.gradient.to_vector<double>()[j] ==
            Approx(plain.gradient.to_vector<double>()[j] + x[j]));
    }
    CHECK(probe.loss.to_vector<double>()[i] ==
          Approx(plain.loss.to_vector<double>()[i] + 0.5 * squares));
  }
  CHECK(probe.forwards == 2 * kImages);
  CHECK(probe.backwards == 2 * kImages);
}

TEST_CASE("objective: every call of the model is counted", "[attacks][objective]") {
  struct Row {
    Objective objective;
    int64_t forwards, backwards;  // per image, with a gradient
  };
  const auto both = [](Path path) { return Objective{.path = path, .climbed = Climbed::both}; };
  const Row rows[] = {
      {{}, 1, 1},
      {{.path = Path::given}, 2, 1},
      {{.path = Path::soft}, 1 + kExperts, 1 + kExperts},
      {{.path = Path::soft_backward}, 1 + kExperts, 1 + kExperts},
      {{.gate = Gate::blocked, .path = Path::soft}, 1 + kExperts, kExperts},
      {{.path = Path::soft_router}, 1 + kExperts, 1},
      {{.climbed = Climbed::router}, 1, 1},
      {both(Path::own), 2, 2},
      {both(Path::given), 2, 2},
      {both(Path::soft), 2 + kExperts, 2 + kExperts},
      {{.samples = 3}, 1 + 6, 0},
      {{.path = Path::given, .samples = 3}, 2 + 6, 0},
      {{.passes = 4}, 4, 4},
      {{.path = Path::given, .samples = 3, .passes = 4}, 4 * (2 + 6), 0},
  };
  const Setting s;
  for (const Row& row : rows) {
    INFO(constants_of(row.objective).dump());
    s.moe.calls = 0;
    const Probe probe = with_gradient(s.model, s.points, s.victims, row.objective);
    CHECK(probe.forwards == row.forwards * kImages);
    CHECK(probe.backwards == row.backwards * kImages);
    CHECK(s.moe.calls == probe.forwards);
    s.moe.calls = 0;
    const Probe plain = without_gradient(s.model, s.points, s.victims, row.objective);
    CHECK(plain.backwards == 0);
    CHECK(s.moe.calls == plain.forwards);
  }
}

// With L(x) = |B x|² the estimate is mean(u uᵀ) 2 BᵀB x whatever sigma is.
TEST_CASE("objective: the smoothed gradient of a quadratic", "[attacks][objective]") {
  const Tensor b = random_normal({6, kPixels}, row_numbers(6), {.seed = 12}, 0, 1, Dtype::f64);
  const Model model{.forward = [&](const Tensor& images, Gate) {
    const int64_t n = images.dim(0);
    const Tensor q = sum(square(linear(reshape(images, {n, kPixels}), b, {})), 1);
    const Tensor column = reshape(q, {n, 1});
    return Outputs{concat({scale(column, 0), column}, 1)};
  }};
  Setting s;
  s.victims.labels = Tensor::zeros({kImages}, Dtype::i32);
  const auto at = [&](const Numbers& x) {
    Numbers g(kPixels, 0.0);
    for (int64_t r = 0; r < 6; ++r) {
      const double* row = b.data_as<double>() + r * kPixels;
      double y = 0;
      for (size_t j = 0; j < kPixels; ++j) y += row[j] * x[j];
      for (size_t j = 0; j < kPixels; ++j) g[j] += 2 * y * row[j];
    }
    return g;
  };
  const RandomKey key{.seed = 21, .iteration = 7};
  for (const auto& [samples, sigma] : {std::pair{1, 0.1}, {3, 2.0}, {300, 8.0 / 255}}) {
    const auto estimate =
        with_gradient(model, s.points, s.victims,
                      {.loss = Loss::margin, .samples = samples, .sigma = sigma}, key)
            .gradient.to_vector<double>();
    std::vector<Numbers> draws;
    for (int d = 0; d < samples; ++d)
      draws.push_back(random_normal(s.points.shape(), s.victims.ids,
                                    {.seed = 21,
                                     .purpose = Purpose::smoothing,
                                     .iteration = 7,
                                     .stream = static_cast<uint32_t>(d)},
                                    0, 1, Dtype::f64)
                          .to_vector<double>());
    for (int64_t i = 0; i < kImages; ++i) {
      const Numbers g = at(image_of(s.points, i));
      Numbers mean(kPixels, 0.0);
      double length = 0;
      for (double v : g) length += v * v;
      for (const Numbers& draw : draws) {
        const double* u = draw.data() + i * kPixels;
        double along = 0;
        for (size_t j = 0; j < kPixels; ++j) along += u[j] * g[j];
        for (size_t j = 0; j < kPixels; ++j) mean[j] += u[j] * along / samples;
      }
      for (size_t j = 0; j < kPixels; ++j) {
        const double found = estimate[size_t(i) * kPixels + j];
        CHECK(found == Approx(mean[j]).epsilon(1e-8));
        // A component of u uᵀ g has a variance below 2 |g|²: five deviations of their mean.
        if (samples == 300) CHECK(std::abs(found - g[j]) < 5 * std::sqrt(2 * length / samples));
      }
    }
  }
}

TEST_CASE("objective: draws are an image's own, however many are looked at together",
          "[attacks][objective]") {
  const Setting s;
  const Objective o{.samples = 50};
  const auto gradient = [&](const std::vector<int32_t>& rows, const RandomKey& key) {
    return with_gradient(s.model, gather_rows(s.points, index_of(rows)), s.victims.rows(rows), o,
                         key)
        .gradient.to_vector<double>();
  };
  const RandomKey key{.seed = 1, .iteration = 2};
  const auto whole = gradient({0, 1, 2, 3, 4}, key), part = gradient({3, 1}, key);
  for (size_t j = 0; j < kPixels; ++j) {
    CHECK(part[j] == whole[3 * kPixels + j]);
    CHECK(part[kPixels + j] == whole[kPixels + j]);
  }
  CHECK(whole != gradient({0, 1, 2, 3, 4}, {.seed = 1, .iteration = 3}));
  CHECK(whole != gradient({0, 1, 2, 3, 4}, {.seed = 2, .iteration = 2}));
}

// A model whose logits are multiplied by noise of its own in every pass.
TEST_CASE("objective: passes of a randomised model are averaged", "[attacks][objective]") {
  Setting s;
  const auto noise = [](const Tensor& ids, const RandomKey& key) {
    return random_uniform({ids.size(), kClasses}, ids, key, 0, 2, Dtype::f64);
  };
  s.model.randomised = [&](const Tensor& x, Gate gate, const Tensor& ids, const RandomKey& key) {
    Outputs out = s.model.forward(x, gate);
    out.logits = mul(out.logits, noise(ids, key));
    return out;
  };
  constexpr int kPasses = 5;
  constexpr uint32_t kLook = 3;
  const Probe probe = with_gradient(s.model, s.points, s.victims, {.passes = kPasses},
                                    {.seed = 6, .iteration = kLook});
  for (int64_t i = 0; i < kImages; ++i) {
    const Numbers x = image_of(s.points, i);
    double loss = 0;
    Numbers logits(kClasses, 0.0), gradient(kPixels, 0.0);
    for (uint32_t pass = 0; pass < kPasses; ++pass) {
      const Numbers factor =
          noise(s.victims.ids,
                {.seed = 6, .purpose = Purpose::gate_noise, .iteration = kLook * kPasses + pass})
              .to_vector<double>();
      const auto noisy = [&](const Numbers& p) {
        Numbers z = s.moe.logits(p, s.moe.route(p));
        for (size_t c = 0; c < z.size(); ++c) z[c] *= factor[size_t(i) * kClasses + c];
        return z;
      };
      const auto f = [&](const Numbers& p) { return cross_entropy_of(noisy(p), s.label(i)); };
      loss += f(x) / kPasses;
      const Numbers z = noisy(x), g = slope(f, x);
      for (size_t c = 0; c < z.size(); ++c) logits[c] += z[c] / kPasses;
      for (size_t j = 0; j < g.size(); ++j) gradient[j] += g[j] / kPasses;
    }
    CHECK(probe.loss.to_vector<double>()[size_t(i)] == Approx(loss).epsilon(1e-12));
    CHECK(probe.predicted.to_vector<int32_t>()[size_t(i)] ==
          std::max_element(logits.begin(), logits.end()) - logits.begin());
    for (size_t j = 0; j < kPixels; ++j)
      CHECK(probe.gradient.to_vector<double>()[size_t(i) * kPixels + j] ==
            Approx(gradient[j]).epsilon(1e-6).margin(1e-8));
  }
}

TEST_CASE("objective: what is missing is named", "[attacks][objective]") {
  Setting s;
  const auto look = [&](const Objective& o) { with_gradient(s.model, s.points, s.victims, o); };
  CHECK_THROWS_WITH(look({.samples = 1, .sigma = 0}), Catch::Contains("sigma must be above 0"));
  CHECK_THROWS_WITH(look({.passes = 0}), Catch::Contains("passes must be at least 1, got 0"));
  s.victims.routes = {};
  CHECK_THROWS_WITH(look({.path = Path::given}), Catch::Contains("routes of the victims"));
  CHECK_THROWS_WITH(look({.climbed = Climbed::router}), Catch::Contains("routes of the victims"));
  s.model.along = {};
  CHECK_THROWS_WITH(look({.path = Path::soft}), Catch::Contains("a model with routes"));
}

TEST_CASE("objective: every constant that matters is printed", "[attacks][objective]") {
  CHECK(constants_of(Objective{}).dump() ==
        R"({"gate":"through","loss":"cross-entropy","path":"own"})");
  CHECK(constants_of(Objective{.path = Path::soft,
                               .climbed = Climbed::both,
                               .steer = Steer::towards,
                               .lambda = 6,
                               .samples = 100,
                               .sigma = 0.25,
                               .passes = 20})
            .dump() ==
        R"({"gate":"through","loss":"cross-entropy","path":"soft",)"
        R"("climbed":"loss + lambda router","steer":"towards","lambda":6.0,"samples":100,)"
        R"("sigma":0.25,"passes":20})");
  CHECK(constants_of(Objective{.climbed = Climbed::router}).dump() ==
        R"({"gate":"through","climbed":"router","steer":"away"})");
}

}  // namespace moat::tests
