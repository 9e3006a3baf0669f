#include "engine/ops/ball.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "engine/ops/elementwise.h"
#include "engine/random.h"
#include "tests/op_case.h"

namespace moat::tests {

using namespace engine;

namespace {

constexpr double kEps = 8.0 / 255;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Uniform pixels in [0, 1], a few of them on the corners.
Tensor pixels(const Shape& shape, uint32_t stream) {
  const int64_t rows = shape[0];
  Tensor ids = Tensor::empty({rows}, Dtype::i32);
  for (int64_t i = 0; i < rows; ++i) ids.data_as<int32_t>()[i] = static_cast<int32_t>(i);
  const Tensor x = random_uniform(shape, ids, {.seed = 3, .stream = stream}, -0.01, 1.01);
  return clamp(x, 0, 1);
}

double l2_distance(const Tensor& a, const Tensor& b, int64_t from, int64_t to) {
  double square = 0;
  for (int64_t i = from; i < to; ++i) {
    const double d = double{a.data_as<float>()[i]} - b.data_as<float>()[i];
    square += d * d;
  }
  return std::sqrt(square);
}

}  // namespace

TEST_CASE("a million float32 pixels stay exactly inside the ball", "[ball]") {
  const Shape shape{100, 10000};
  const Tensor center = pixels(shape, 1);
  const Tensor gradient = randn(shape, 2).to(Dtype::f32);
  for (double eps : {kEps, 4.0 / 255, 0.031, 0.1, 1e-9}) {
    Tensor x = center;
    for (int step = 0; step < 3; ++step)
      x = ball_step(x, gradient, center, {.norm = Norm::linf, .eps = eps, .step = eps / 2});
    const float *y = x.data_as<float>(), *c = center.data_as<float>();
    int64_t outside = 0, on_edge = 0;
    for (int64_t i = 0; i < x.size(); ++i) {
      const float apart = std::abs(y[i] - c[i]);
      const double apart_exactly = std::abs(double{y[i]} - c[i]);
      outside += apart > eps || apart > static_cast<float>(eps) || apart_exactly > eps ||
                 !(y[i] >= 0 && y[i] <= 1);
      on_edge += apart >= eps - 6e-8;
    }
    CHECK(outside == 0);
    CHECK(on_edge > 880000);  // all but those the box stops
  }
}

TEST_CASE("L2 steps end on the sphere and never outside", "[ball]") {
  for (int64_t size : {27, 3072, 150528})
    for (double eps : {0.5, 128.0 / 255, 3.0}) {
      const Shape shape{4, size};
      const Tensor center = affine(pixels(shape, 3), 0.2, 0.4);  // the box is far away
      const Tensor gradient = randn(shape, 4).to(Dtype::f32);
      const Tensor y =
          ball_step(center, gradient, center, {.norm = Norm::l2, .eps = eps, .step = 2 * eps});
      for (int64_t image = 0; image < 4; ++image) {
        const double distance = l2_distance(y, center, image * size, (image + 1) * size);
        CHECK(distance <= eps * (1 + 1e-6));
        if (size > 27) CHECK(distance >= eps * (1 - 1e-4));
      }
    }
}

TEST_CASE("projection leaves what is inside alone and is idempotent", "[ball]") {
  const Shape shape{10, 1000};
  const Tensor center = pixels(shape, 5);
  for (Norm norm : {Norm::linf, Norm::l2}) {
    const double eps = norm == Norm::linf ? kEps : 0.5;
    const Tensor x = add(center, scale(randn(shape, 6).to(Dtype::f32), 0.1));
    const Tensor once = ball_project(x, center, norm, eps);
    CHECK(same_bits(ball_project(once, center, norm, eps), once));
    CHECK(same_bits(ball_project(center, center, norm, 0), center));
    CHECK(same_bits(ball_project(x, center, norm, 0), center));
  }
}

TEST_CASE("a NaN gradient counts as zero, an infinite one keeps its sign", "[ball]") {
  const float inf = std::numeric_limits<float>::infinity();
  const Tensor x = Tensor::full({1, 4}, 0.5);
  const Tensor gradient = Tensor::from<float>({kNan, inf, -inf, 0}, {1, 4});
  CHECK(ball_step(x, gradient, x, {.eps = 0.25, .step = 0.125}).to_vector<float>() ==
        std::vector<float>{0.5f, 0.625f, 0.375f, 0.5f});
  const auto y =
      ball_step(x, gradient, x, {.norm = Norm::l2, .eps = 1, .step = 0.1}).to_vector<float>();
  CHECK(y[0] == 0.5f);
  CHECK(y[1] == Approx(0.5 + 0.1 / std::sqrt(2)));
  CHECK(y[2] == Approx(0.5 - 0.1 / std::sqrt(2)));
  const Tensor nothing = Tensor::full({1, 4}, kNan);
  CHECK(same_bits(ball_step(x, nothing, x, {.norm = Norm::l2, .eps = 1, .step = 0.1}), x));
}

TEST_CASE("momentum accumulates gradients of unit L1 norm", "[ball]") {
  const Tensor x = Tensor::full({1, 2}, 0.5), velocity = Tensor::zeros({1, 2});
  const BallStep step{.eps = 0.25, .step = 0.0625, .momentum = 0.5};
  const Tensor first = ball_step(x, Tensor::from<float>({3, -1}, {1, 2}), x, step, velocity);
  CHECK(velocity.to_vector<float>() == std::vector<float>{0.75f, -0.25f});
  CHECK(first.to_vector<float>() == std::vector<float>{0.5625f, 0.4375f});
  const Tensor second = ball_step(first, Tensor::from<float>({-1, 1}, {1, 2}), x, step, velocity);
  CHECK(velocity.to_vector<float>() == std::vector<float>{-0.125f, 0.375f});
  CHECK(second.to_vector<float>() == std::vector<float>{0.5f, 0.5f});
  ball_step(second, Tensor::full({1, 2}, kNan), x, step, velocity);
  CHECK(velocity.to_vector<float>() == std::vector<float>{-0.0625f, 0.1875f});
}

TEST_CASE("an image's step does not depend on the batch", "[ball]") {
  const Shape shape{64, 32, 32, 3};
  const Tensor center = pixels(shape, 7), gradient = randn(shape, 8).to(Dtype::f32);
  for (Norm norm : {Norm::linf, Norm::l2}) {
    const BallStep step{.norm = norm, .eps = 0.3, .step = 0.4};
    const Tensor all = ball_step(center, gradient, center, step);
    const Tensor c = center.sliced(0, 41, 42);
    const Tensor one = ball_step(c, gradient.sliced(0, 41, 42), c, step);
    CHECK(same_bits(one, all.sliced(0, 41, 42).contiguous()));
  }
}

TEST_CASE("ball_step says what must hold", "[ball]") {
  const Tensor x = Tensor::zeros({1, 2});
  CHECK_THROWS_WITH(ball_step(x, Tensor::zeros({2, 2}), x, {}),
                    "ball_step: gradient must be float32 [1, 2], got float32 [2, 2]");
  CHECK_THROWS_WITH(ball_project(x, x, Norm::linf, -1),
                    "ball_project: eps must be finite and not negative, got -1");
  const Tensor wide = Tensor::zeros({2, 2});
  CHECK_THROWS_WITH(ball_step(wide, wide, wide, {}, wide.permuted({1, 0})),
                    Catch::Contains("contiguous"));
}

// A confident model's gradient is tiny but its direction is as good: adding a constant to the norm
// would stop the attack there and look like robustness.
TEST_CASE("an L2 step is as long for a tiny gradient as for a large one") {
  const Tensor center = Tensor::full({1, 4}, 0.5), x = center;
  for (float size : {1e-20f, 1.0f, 1e20f}) {
    const Tensor g = Tensor::from(std::vector<float>{3 * size, 0, -4 * size, 0}, {1, 4});
    const auto y =
        ball_step(x, g, center, {.norm = Norm::l2, .eps = 1, .step = 0.1}).to_vector<float>();
    CHECK(y[0] == Approx(0.5 + 0.06));
    CHECK(y[2] == Approx(0.5 - 0.08));
  }
  CHECK(ball_step(x, Tensor::zeros({1, 4}), center, {.norm = Norm::l2, .eps = 1, .step = 0.1})
            .to_vector<float>() == x.to_vector<float>());
}

}  // namespace moat::tests
