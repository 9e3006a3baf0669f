#include "engine/ops/fab_step.h"

#include <catch2/catch.hpp>
#include <limits>

#include "kernels/update/fab_step.h"
#include "tests/box_plane_reference.h"
#include "tests/random_values.h"

namespace moat::tests {

using engine::Dtype;
using engine::Norm;
using engine::Tensor;

namespace {

// Images of any size with pixels on the walls, gradients with zeros, differences from nothing to
// more than the box has room for.
struct Batch {
  size_t images, pixels;
  std::vector<double> x, center, gradient, difference;

  Batch(size_t n, size_t d, unsigned seed) : images(n), pixels(d) {
    const auto place = [&](unsigned salt) {
      std::vector<double> v = normals(n * d, seed + salt, 0.4);
      for (double& p : v) p = std::clamp(p + 0.5, 0.0, 1.0);
      return v;
    };
    x = place(0);
    center = place(1);
    gradient = normals(n * d, seed + 2);
    const auto kind = integers<int>(n * d, seed + 3, 0, 8);
    for (size_t i = 0; i < n * d; ++i) {
      if (kind[i] == 0) gradient[i] = 0;
      if (kind[i] == 1) gradient[i] = 9e-9;  // counts as 0 in L2
      if (std::abs(gradient[i]) > 1e-8 && std::abs(gradient[i]) < 1e-3) gradient[i] = 0.5;
    }
    difference = normals(n, seed + 4, 0.6 * std::sqrt(double(d)));
    for (size_t i = 0; i < n; i += 50) difference[i] = 0;
  }
  std::vector<double> row(const std::vector<double>& v, size_t i) const {
    return {v.begin() + int64_t(i * pixels), v.begin() + int64_t((i + 1) * pixels)};
  }
};

std::vector<double> stepped(const Batch& b, Norm norm, double pull, double overshoot) {
  std::vector<double> y(b.x.size(), std::nan(""));
  REQUIRE(kernels::fab_step(kernels::Cpu{}, {.x = b.x.data(),
                                             .center = b.center.data(),
                                             .gradient = b.gradient.data(),
                                             .difference = b.difference.data(),
                                             .y = y.data(),
                                             .images = int(b.images),
                                             .pixels = int(b.pixels),
                                             .norm = norm,
                                             .pull = pull,
                                             .overshoot = overshoot,
                                             .dtype = Dtype::f64}) == kernels::Status::ok);
  return y;
}

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

}  // namespace

TEST_CASE("fab_step: the projection equals bisection in 100000 cases", "[fab_step]") {
  int64_t cases = 0, beyond = 0, at_the_wall = 0;
  for (Norm norm : {Norm::linf, Norm::l2}) {
    double worst = 0;
    for (unsigned round = 0; round < 100; ++round) {
      const Batch b(500, round < 90 ? 1 + round / 5 : 90, 10 * round + 1);
      const std::vector<double> y = stepped(b, norm, 0, 1);
      for (size_t i = 0; i < b.images; ++i) {
        const std::vector<double> x = b.row(b.x, i);
        const LeastMove want = least_move(x, b.row(b.gradient, i), b.difference[i], norm);
        for (size_t p = 0; p < b.pixels; ++p)
          worst = std::max(worst, std::abs(y[i * b.pixels + p] - (x[p] + want.move[p])));
        beyond += !want.reaches;
        at_the_wall += want.reaches && want.meets_box;
        ++cases;
      }
    }
    CHECK(worst < 1e-9);  // 1 / the smallest slope times roundoff
  }
  CHECK(cases == 100000);
  CHECK(beyond > 5000);
  CHECK(at_the_wall > 20000);
}

TEST_CASE("fab_step: both projections are mixed as the paper says", "[fab_step]") {
  for (Norm norm : {Norm::linf, Norm::l2})
    for (double pull : {0.0, 0.1, 1.0})
      for (double overshoot : {1.0, 1.05}) {
        const Batch b(300, 23, 5);
        const std::vector<double> y = stepped(b, norm, pull, overshoot);
        double worst = 0;
        for (size_t i = 0; i < b.images; ++i) {
          const std::vector<double> want =
              fab_reference(b.row(b.x, i), b.row(b.center, i), b.row(b.gradient, i),
                            b.difference[i], norm, pull, overshoot);
          for (size_t p = 0; p < b.pixels; ++p)
            worst = std::max(worst, std::abs(y[i * b.pixels + p] - want[p]));
        }
        CHECK(worst < 1e-9);
      }
}

TEST_CASE("fab_step: of exact numbers", "[fab_step]") {
  const Tensor x = Tensor::from<float>({.5f, .25f, .5f}, {1, 3}),
               w = Tensor::from<float>({1, 2, 0}, {1, 3});
  const auto projected = [&](double difference, Norm norm) {
    return fab_step(x, x, w, Tensor::full({1}, difference),
                    {.norm = norm, .pull = 0, .overshoot = 1})
        .to_vector<float>();
  };
  CHECK(projected(.375, Norm::linf) == std::vector<float>{.375f, .125f, .5f});
  CHECK(projected(-.375, Norm::linf) == std::vector<float>{.625f, .375f, .5f});
  CHECK(projected(.9375, Norm::linf) == std::vector<float>{.0625f, 0, .5f});  // one at the wall
  CHECK(projected(9, Norm::linf) == std::vector<float>{0, 0, .5f});           // both
  CHECK(projected(.3125, Norm::l2) == std::vector<float>{.4375f, .125f, .5f});
  CHECK(projected(0, Norm::l2) == x.to_vector<float>());
}

// Exact in powers of two; 2^-40 is about 1e-12.
TEST_CASE("fab_step: logits of another scale have the same steps in Linf", "[fab_step]") {
  for (double size : {0x1p-40, 0x1p40}) {
    Batch b(100, 23, 7);
    const std::vector<double> as_is = stepped(b, Norm::linf, 0.1, 1.05);
    for (std::vector<double>* v : {&b.gradient, &b.difference})
      for (double& x : *v) x *= size;
    CHECK(stepped(b, Norm::linf, 0.1, 1.05) == as_is);
  }
}

TEST_CASE("fab_step: NaN counts as nothing, infinity as the largest float32", "[fab_step]") {
  const Tensor x = Tensor::full({1, 3}, .5);
  const auto moved = [&](std::vector<float> w, float difference) {
    return fab_step(x, x, Tensor::from(w, {1, 3}), Tensor::full({1}, difference),
                    {.pull = 0, .overshoot = 1})
        .to_vector<float>();
  };
  CHECK(moved({kNan, 2, 0}, .5f) == std::vector<float>{.5f, .25f, .5f});
  CHECK(moved({kInf, 1, -kInf}, 1) == std::vector<float>{.5f, .5f, .5f});
  CHECK(moved({1, -1, 1}, kNan) == std::vector<float>{.5f, .5f, .5f});
  CHECK(moved({1, -1, 1}, kInf) == std::vector<float>{0, 1, 0});
  CHECK(moved({0, 0, 0}, 1) == std::vector<float>{.5f, .5f, .5f});
}

TEST_CASE("fab_step: an image's step does not depend on the batch", "[fab_step]") {
  const Batch b(40, 700, 3);
  for (Norm norm : {Norm::linf, Norm::l2}) {
    const std::vector<double> all = stepped(b, norm, 0.1, 1.05);
    Batch one(1, 700, 0);
    one.x = b.row(b.x, 17);
    one.center = b.row(b.center, 17);
    one.gradient = b.row(b.gradient, 17);
    one.difference = {b.difference[17]};
    CHECK(stepped(one, norm, 0.1, 1.05) == b.row(all, 17));
  }
}

TEST_CASE("fab_step: bad arguments are refused", "[fab_step]") {
  const auto status_of = [](auto change) {
    kernels::FabStep a{};
    a.dtype = Dtype::f32;
    change(a);
    return kernels::fab_step(kernels::Cpu{}, a);
  };
  using kernels::FabStep, kernels::Status;
  CHECK(status_of([](FabStep& a) { a.images = -1; }) == Status::bad_args);
  CHECK(status_of([](FabStep& a) { a.pixels = -1; }) == Status::bad_args);
  CHECK(status_of([](FabStep& a) { a.pull = 1.5; }) == Status::bad_args);
  CHECK(status_of([](FabStep& a) { a.pull = std::nan(""); }) == Status::bad_args);
  CHECK(status_of([](FabStep& a) { a.overshoot = -1; }) == Status::bad_args);
  CHECK(status_of([](FabStep& a) { a.dtype = Dtype::bf16; }) == Status::unsupported);
  const Tensor x = Tensor::zeros({2, 3}), d = Tensor::zeros({2});
  CHECK_THROWS_WITH(fab_step(x, x, x, x, {}),
                    "fab_step: difference must be float32 [2], got float32 [2, 3]");
  CHECK_THROWS_WITH(fab_step(x, x, {}, d, {}),
                    "fab_step: gradient must be float32 [2, 3], got nothing");
  CHECK_THROWS_WITH(fab_step(x, x, x, d, {.pull = 2}),
                    "fab_step: pull must be in [0, 1] and overshoot finite and not negative, got 2 "
                    "and 1.05");
  CHECK_THROWS_WITH(fab_step(x.to(Dtype::i32), x, x, d, {}), Catch::Contains("float32 or float64"));
}

}  // namespace moat::tests
