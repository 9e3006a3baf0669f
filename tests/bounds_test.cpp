#include "engine/nn/bounds.h"

#include <catch2/catch.hpp>

#include "attacks/victims.h"
#include "engine/ops/elementwise.h"
#include "tests/models_fixture.h"
#include "train/certify/output_bounds.h"

namespace moat::tests {

using namespace engine;
using Catch::Matchers::Contains;
using models::Classifier;
using models::ClassifierSettings;

namespace {

Tensor matrix(const std::vector<double>& values, const Shape& shape) {
  return Tensor::from(values, shape);
}

// Every convolutional family, alone and in mixtures; neither dual nor transformers.
std::vector<ClassifierSettings> bounded_families() {
  std::vector<ClassifierSettings> out;
  for (const ClassifierSettings& s : small_families())
    if (!s.dual && s.family != models::Family::vit) out.push_back(s);
  return out;
}

// Points of the balls of eps around images, at corners of them for an odd draw, in [0, 1].
Tensor drawn(const Tensor& images, double eps, uint32_t draw) {
  const Tensor unit = random_uniform(images.shape(), row_numbers(images.dim(0)),
                                     {.purpose = Purpose::test, .stream = 1000 + draw}, -1, 1)
                          .to(images.dtype());
  return clamp(add(images, scale(draw % 2 ? sign(unit) : unit, eps)), 0, 1);
}

Tensor logits_along(const Classifier& model, const Tensor& x, int expert) {
  if (!model.is_routed()) return model.forward(x, Mode::eval).logits;
  return model.forward_along(x, Tensor::full({x.dim(0)}, expert, Dtype::i32), Mode::eval);
}

// y_a - y_b of every pair, [n, k, k].
std::vector<double> differences(const Tensor& y) {
  const std::vector<double> v = doubles(y);
  const auto n = size_t(y.dim(0)), k = size_t(y.dim(1));
  std::vector<double> out;
  for (size_t i = 0; i < n; ++i)
    for (size_t a = 0; a < k; ++a)
      for (size_t b = 0; b < k; ++b) out.push_back(v[i * k + a] - v[i * k + b]);
  return out;
}

struct Widest {
  int64_t outside = 0, too_steep = 0;
  double gap = 0;  // largest distance of a value from its bounds' middle, in half widths
};

// Looks at the values at many points, in float64, against bounds with slopes.
template <class Values>
Widest looked_at(const Bounds& bounds, const Tensor& images, double eps, Values&& values) {
  const auto low = doubles(bounds.low), high = doubles(bounds.high), slope = doubles(bounds.slope);
  const std::vector<double> at = values(images);
  const size_t each = at.size() / size_t(images.dim(0)),
               pixels = size_t(images.size() / images.dim(0));
  const auto from = doubles(images);
  Widest out;
  for (uint32_t draw = 0; draw < 8; ++draw) {
    const Tensor points = drawn(images, eps, draw);
    const std::vector<double> there = values(points);
    const auto to = doubles(points);
    for (size_t i = 0; i < size_t(images.dim(0)); ++i) {
      double distance = 0;
      for (size_t p = i * pixels; p < (i + 1) * pixels; ++p)
        distance = std::max(distance, std::abs(to[p] - from[p]));
      for (size_t k = i * each; k < (i + 1) * each; ++k) {
        out.outside += !(low[k] <= there[k] && there[k] <= high[k]);
        out.too_steep += !(std::abs(there[k] - at[k]) <= slope[k] * distance * (1 + 1e-12) + 1e-13);
        const double half = (high[k] - low[k]) / 2;
        if (half > 0)
          out.gap = std::max(out.gap, std::abs(there[k] - (high[k] + low[k]) / 2) / half);
      }
    }
  }
  return out;
}

}  // namespace

// y = (x_0 - 2 x_1 + 1, 3 x_0 + x_1) for x in [0, 1] × [1, 2]: [-3, 0] and [1, 5]; their difference
// -2 x_0 - 3 x_1 + 1 in [-7, -2], not in [-8, -1].
TEST_CASE("bounds: a linear map by hand", "[bounds]") {
  const Bounds x{matrix({0, 1}, {1, 2}), matrix({1, 2}, {1, 2}), matrix({1, 1}, {1, 2})};
  const Tensor weight = matrix({1, -2, 3, 1}, {2, 2}), bias = matrix({1, 0}, {2});
  const Bounds y = linear(x, weight, bias);
  const double low[] = {-3, 1}, high[] = {0, 5}, slope[] = {3, 4};
  for (size_t i = 0; i < 2; ++i) {
    CHECK(doubles(y.low)[i] == Approx(low[i]).margin(1e-12));
    CHECK(doubles(y.high)[i] == Approx(high[i]).margin(1e-12));
    CHECK(doubles(y.slope)[i] == Approx(slope[i]));
  }
  const Differences d = linear_differences(x, weight, bias);
  CHECK(doubles(d.low)[1] == Approx(-7));
  CHECK(doubles(d.high)[1] == Approx(-2));
  CHECK(doubles(d.low)[2] == Approx(2));
  CHECK(doubles(d.slope)[1] == Approx(5));
  CHECK(doubles(d.terms)[0] == Approx(6));  // 1 + 2 · 2 + 1 of the first
  CHECK(doubles(d.low)[0] == Approx(0).margin(1e-12));
  // An element that is never above 0 does not move behind a ReLU.
  const Bounds cut = relu(y);
  CHECK(doubles(cut.slope)[0] == Approx(y.high.data_as<double>()[0] > 0 ? 3 : 0));
  CHECK(doubles(relu(Bounds{matrix({-2}, {1, 1}), matrix({-1}, {1, 1}), matrix({1}, {1, 1})})
                    .slope)[0] == 0);
}

TEST_CASE("bounds: every convolutional net stays within them, and so do its slopes", "[bounds]") {
  constexpr double kEps = 0.02;
  for (const ClassifierSettings& settings : bounded_families()) {
    INFO(settings.name);
    Classifier model(settings, 7);
    stir(model);
    convert(model, Dtype::f64);
    const Tensor images = random_images(3, settings).to(Dtype::f64);
    const Bounds balls =
        train::box_around(images, std::vector<double>(3, kEps), train::Carry::slopes);
    for (int e = 0; e < settings.experts; ++e) {
      INFO("expert " << e);
      const Widest found =
          looked_at(model.logit_differences(balls, e), images, kEps,
                    [&](const Tensor& x) { return differences(logits_along(model, x, e)); });
      CHECK(found.outside == 0);
      CHECK(found.too_steep == 0);
      CHECK(found.gap > 0.001);  // bounds that are not simply everything
    }
    if (!model.is_routed()) continue;
    const Widest found = looked_at(
        model.score_differences(balls), images, kEps,
        [&](const Tensor& x) { return differences(model.forward(x, Mode::eval).scores); });
    CHECK(found.outside == 0);
    CHECK(found.too_steep == 0);
  }
}

// Affine forms: of one image, whose slopes are there already.
TEST_CASE("bounds: affine forms hold as well, and are tighter in small balls", "[bounds]") {
  constexpr double kEps = 0.001;
  int tighter = 0, nets = 0;
  for (const ClassifierSettings& settings : bounded_families()) {
    INFO(settings.name);
    Classifier model(settings, 7);
    stir(model);
    convert(model, Dtype::f64);
    const Tensor images = random_images(1, settings).to(Dtype::f64);
    const std::vector<double> eps{kEps};
    const Bounds balls = model.logit_differences(
        train::box_around(images, eps, train::Carry::slopes), settings.experts - 1);
    Bounds forms = model.logit_differences(
        train::box_around(images, eps, train::Carry::affine_forms), settings.experts - 1);
    forms.slope = balls.slope;
    const Widest found = looked_at(forms, images, kEps, [&](const Tensor& x) {
      return differences(logits_along(model, x, settings.experts - 1));
    });
    CHECK(found.outside == 0);
    CHECK(found.gap > 0.0005);  // bounds that are not simply everything
    const auto width = [](const Bounds& b) { return doubles(b.high)[1] - doubles(b.low)[1]; };
    ++nets;
    tighter += width(forms) < width(balls);
  }
  CHECK(tighter >= nets - 2);  // a form ends at a max-pool
}

// x - x is 0, and relu(x) of x in [-1, 1] lies in x / 2 + [0, 1/2].
TEST_CASE("bounds: affine forms by hand", "[bounds]") {
  const Bounds x{
      matrix({-1, 0}, {1, 2}), matrix({1, 1}, {1, 2}), {}, matrix({1, 0, 0, 0.5}, {2, 2})};
  const Tensor twice = matrix({1, 0, 1, 1}, {2, 2}), apart = matrix({1, -1}, {1, 2});
  const Bounds y = linear(linear(x, twice, {}), apart, {});  // x_0 - (x_0 + x_1)
  CHECK(doubles(y.low)[0] == Approx(-1));
  CHECK(doubles(y.high)[0] == Approx(0).margin(1e-12));
  const Bounds cut = relu(x);
  CHECK(doubles(cut.low)[0] == Approx(-0.5));
  CHECK(doubles(cut.high)[0] == Approx(1));
  CHECK(doubles(cut.low)[1] == Approx(0).margin(1e-12));
  CHECK(doubles(cut.pixels)[0] == Approx(0.5));
  CHECK(doubles(cut.pixels)[3] == Approx(0.5));
  const Bounds sum = add(cut, cut);
  CHECK(doubles(sum.high)[0] == Approx(2));
  const Tensor second = Tensor::from(std::vector<int32_t>{1}, {1});
  const Bounds both{matrix({-1, 3}, {2, 1}), matrix({1, 5}, {2, 1}), {}, matrix({1, 1}, {2, 1})};
  CHECK(doubles(gather_rows(both, second).pixels).size() == 1);
  CHECK(doubles(gather_rows(both, second).low)[0] == 3);
}

// A box that is a point: only rounding is left, and what a model in float32 differs by is far below
// the allowance for it.
TEST_CASE("bounds: of a point they are the value, and float32 is near it", "[bounds]") {
  const double common = GENERATE(0.0, 1e4);  // in all logits, which float32 is relative to
  for (const ClassifierSettings& settings : bounded_families()) {
    INFO(settings.name << ", logits near " << common);
    Classifier model(settings, 7), wide(settings, 7);
    for (Classifier* net : {&model, &wide}) {
      stir(*net);
      for (const NamedTensor& t : state_of(*net))
        if (t.name.ends_with("fc.bias")) t.value->copy_from(engine::affine(*t.value, 1, common));
    }
    convert(wide, Dtype::f64);
    const Tensor images = random_images(3, settings);
    const Bounds points = train::box_around(images, std::vector<double>(3, 0.0));
    const Differences d = model.logit_differences(points, 0);
    const auto low = doubles(d.low), high = doubles(d.high), terms = doubles(d.terms),
               exact = differences(logits_along(wide, images.to(Dtype::f64), 0)),
               rounded = differences(logits_along(model, images, 0));
    double width = 0;
    for (size_t k = 0; k < exact.size(); ++k) {
      const double size = terms[k * 3 / exact.size()], roundoff = 1e-15 * size;
      REQUIRE(low[k] <= exact[k] + roundoff);
      REQUIRE(exact[k] <= high[k] + roundoff);
      width = std::max(width, (high[k] - low[k]) / size);
      CHECK(std::abs(rounded[k] - exact[k]) < 0.1 * train::kFloat32Share * size);
    }
    CHECK(width < 1e-9);
  }
}

TEST_CASE("bounds: all images are in one box", "[bounds]") {
  const ClassifierSettings settings = tiny_moe(2);
  Classifier model(settings, 3);
  stir(model);
  convert(model, Dtype::f64);
  const Tensor images = random_images(4, settings).to(Dtype::f64);
  const Bounds all = model.logit_differences(train::all_images(settings), 1);
  const auto low = doubles(all.low), high = doubles(all.high);
  const auto values = differences(logits_along(model, images, 1));
  for (size_t k = 0; k < values.size(); ++k) {
    CHECK(low[k % low.size()] <= values[k]);
    CHECK(values[k] <= high[k % high.size()]);
  }
}

TEST_CASE("bounds: what has none says so", "[bounds]") {
  ClassifierSettings vit, dual;
  for (const ClassifierSettings& s : small_families()) {
    if (s.name == "vit") vit = s;
    if (s.name == "dual") dual = s;
  }
  const Classifier transformer(vit, 0), both(dual, 0), dense(tiny_dense(), 0),
      routed(tiny_moe(2), 0);
  const Bounds box = train::all_images(tiny_dense());
  CHECK_THROWS_WITH(
      transformer.logit_differences(box, 0),
      Contains("bounds are known for convolutional nets") && Contains("choose such a model"));
  CHECK_THROWS_WITH(both.logit_differences(box, 0), Contains("a dual model"));
  CHECK_THROWS_WITH(dense.score_differences(box), Contains("must have a router of its own"));
  CHECK_THROWS_WITH(both.score_differences(box), Contains("must have a router of its own"));
  CHECK_THROWS_WITH(routed.logit_differences(box, 2), Contains("must be below 2, got 2"));
  CHECK_THROWS_WITH(dense.standard(), Contains("only a dual model"));
}

}  // namespace moat::tests
