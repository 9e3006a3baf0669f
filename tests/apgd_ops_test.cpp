#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "engine/ops/apgd.h"
#include "engine/ops/elementwise.h"
#include "tests/apgd_progress_case.h"
#include "tests/op_case.h"

namespace moat::tests {

using namespace engine;
using kernels::Norm;

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

ProgressState updated(const Look& look, int window, const ProgressState& s) {
  const auto n = static_cast<int64_t>(s.images), pixels = static_cast<int64_t>(s.pixels);
  const auto images = [&](const std::vector<float>& v) { return Tensor::from(v, {n, pixels}); };
  const auto vector = [&](const auto& v) { return Tensor::from(v, {n}); };
  const Tensor points = images(look.points), gradient = images(look.gradient);
  const ApgdProgress p{vector(s.step),      images(s.best_points), images(s.best_gradient),
                       vector(s.best_loss), vector(s.last_loss),   vector(s.checked_loss),
                       vector(s.rises),     vector(s.halved)};
  update(p, points, gradient, vector(look.loss), window, 0.75);
  const auto floats = [](const Tensor& t) { return t.to_vector<float>(); };
  return {s.images,
          s.pixels,
          floats(points),
          floats(gradient),
          floats(p.best_points),
          floats(p.best_gradient),
          floats(p.best_loss),
          floats(p.last_loss),
          floats(p.checked_loss),
          p.rises.to_vector<int32_t>(),
          p.halved.to_vector<int32_t>(),
          p.step.to_vector<double>()};
}

}  // namespace

TEST_CASE("apgd: progress equals plain loops over several looks", "[apgd]") {
  for (const auto& [images, pixels] :
       {std::pair<size_t, size_t>{9, 3}, {14, 5000}, {200, 4}, {2, 0}, {0, 4}})
    check_progress(images, pixels, updated);
}

TEST_CASE("apgd: both reasons to halve a step", "[apgd]") {
  const Tensor none = Tensor::zeros({4, 1}), first = Tensor::zeros({4});
  const ApgdProgress p = apgd_progress(none, none, first, 0.5);
  // Losses of two windows of four looks; three rises are 0.75 of a window, and too few.
  const std::vector<std::vector<float>> looks = {
      {1, 1, 5, -1}, {2, 2, 6, -2}, {3, 3, 7, -3}, {4, 3, 8, -4},  // 4, 3, 4 and 0 rises
      {5, 4, 1, 0},  {6, 5, 2, 0},  {7, 6, 3, 0},  {8, 7, 4, 0}};  // 4, 4, 3 and 1
  std::vector<std::vector<double>> steps;
  std::vector<std::vector<float>> points;
  for (size_t i = 0; i < looks.size(); ++i) {
    const Tensor x = Tensor::full({4, 1}, double(i) + 1);
    update(p, x, none.clone(), Tensor::from(looks[i], {4}), i % 4 == 3 ? 4 : 0, 0.75);
    if (i % 4 == 3) {
      steps.push_back(p.step.to_vector<double>());
      points.push_back(x.to_vector<float>());
    }
  }
  CHECK(steps[0] == std::vector<double>{0.5, 0.25, 0.5, 0.25});
  CHECK(points[0] == std::vector<float>{4, 3, 4, 0});
  CHECK(steps[1] == std::vector<double>{0.5, 0.25, 0.25, 0.125});
  CHECK(points[1] == std::vector<float>{8, 8, 4, 0});
  // From the second window on four rises each, all of them below the best: that halves, but not
  // twice in a row, and the first window has.
  const ApgdProgress q = apgd_progress(none, none, Tensor::full({4}, 9), 1);
  for (int window = 0; window < 4; ++window)
    for (int i = 1; i <= 4; ++i)
      update(q, none.clone(), none.clone(), Tensor::full({4}, window + 0.1 * i), i == 4 ? 4 : 0,
             0.75);
  CHECK(q.step.to_vector<double>()[0] == 0.25);  // in the first window and the third
}

TEST_CASE("apgd: a step stays inside ball and box to the last bit", "[apgd]") {
  const Shape shape{60, 500};
  const Tensor center = clamp(affine(randn(shape, 1), 0.4, 0.5), 0, 1).to(Dtype::f32);
  for (Norm norm : {Norm::linf, Norm::l2})
    for (double eps : {0.0, 1e-9, 8.0 / 255, 0.5, 1.0})
      for (double size : {0.0, 1e-3, 2 * eps, 1e6}) {
        INFO("norm " << int(norm) << ", eps " << eps << ", step " << size);
        const Tensor steps = Tensor::full({60}, size, Dtype::f64);
        Tensor x = center, previous = center;
        for (uint32_t i = 0; i < 4; ++i) {
          const Tensor next = apgd_step(x, previous, randn(shape, 2 + i).to(Dtype::f32), center,
                                        steps, {norm, eps, i == 0 ? 1 : 0.75});
          previous = std::exchange(x, next);
        }
        const float *y = x.data_as<float>(), *c = center.data_as<float>();
        int64_t outside = 0;
        for (int64_t image = 0; image < 60; ++image) {
          double square = 0;
          for (int64_t j = image * 500; j < (image + 1) * 500; ++j) {
            const double apart = std::abs(double{y[j]} - c[j]);
            square += apart * apart;
            outside += !(y[j] >= 0 && y[j] <= 1) || (norm == Norm::linf && apart > eps);
          }
          outside += norm == Norm::l2 && std::sqrt(square) > eps * (1 + 1e-6);
        }
        CHECK(outside == 0);
      }
}

TEST_CASE("apgd: a step with momentum by hand", "[apgd]") {
  const Tensor center = Tensor::full({1, 2}, 0.5), x = Tensor::from<float>({0.5f, 0.625f}, {1, 2}),
               previous = Tensor::from<float>({0.625f, 0.5f}, {1, 2}),
               steps = Tensor::full({1}, 0.125, Dtype::f64);
  const Tensor g = Tensor::from<float>({1, -1}, {1, 2});
  // z = (0.625, 0.5), u = (-0.125, 0.125).
  CHECK(apgd_step(x, previous, g, center, steps, {Norm::linf, 0.25, 0.75}).to_vector<float>() ==
        std::vector<float>{0.5625f, 0.5625f});
  CHECK(apgd_step(x, previous, g, center, steps, {Norm::linf, 0.25, 1}).to_vector<float>() ==
        std::vector<float>{0.625f, 0.5f});
  // z is stopped at 0.5 + 0.0625 before the momentum pulls back.
  CHECK(apgd_step(center, previous, g, center, steps, {Norm::linf, 0.0625, 0.75})
            .to_vector<float>() == std::vector<float>{0.515625f, 0.453125f});
  // A step of 5 · 0.125 along (3, -4) / 5 from the center, inside the ball.
  const auto y = apgd_step(center, center, Tensor::from<float>({3e-20f, -4e-20f}, {1, 2}), center,
                           steps, {Norm::l2, 0.25, 1})
                     .to_vector<float>();
  CHECK(y[0] == Approx(0.575));
  CHECK(y[1] == Approx(0.4));
}

TEST_CASE("apgd: gradients and steps that are not finite", "[apgd]") {
  const Tensor x = Tensor::full({3, 4}, 0.5);
  const Tensor g =
      Tensor::from<float>({kNan, kInf, -kInf, 0, kNan, kInf, -kInf, 0, 1, 1, 1, 1}, {3, 4});
  const Tensor steps = Tensor::from<double>({0.125, double{kInf}, double{kNan}}, {3});
  const auto y = apgd_step(x, x, g, x, steps, {Norm::linf, 0.25, 1}).to_vector<float>();
  CHECK(y == std::vector<float>{0.5f, 0.625f, 0.375f, 0.5f, 0.5f, 0.75f, 0.25f, 0.5f, 0.5f, 0.5f,
                                0.5f, 0.5f});
}

TEST_CASE("apgd: the ops say what must hold", "[apgd]") {
  const Tensor x = Tensor::zeros({2, 3}), other = Tensor::zeros({3, 2}),
               steps = Tensor::zeros({2}, Dtype::f64);
  CHECK_THROWS_WITH(apgd_step(x, other, x, x, steps, {}),
                    "apgd_step: previous must be float32 [2, 3], got float32 [3, 2]");
  CHECK_THROWS_WITH(apgd_step(x, x, x, x, Tensor::zeros({2}), {}),
                    "apgd_step: steps must be float64 [2], got float32 [2]");
  CHECK_THROWS_WITH(apgd_step(x, x, x, x, steps, {.eps = -1}),
                    "apgd_step: eps must be finite and not negative, got -1");
  CHECK_THROWS_WITH(apgd_step(x, x, x, x, steps, {.momentum = 2}),
                    "apgd_step: momentum must be in [0, 1], got 2");
  CHECK_THROWS_WITH(apgd_progress(x, x, Tensor::zeros({3}), 1),
                    "apgd_progress: loss must be float32 [2], got float32 [3]");
  const Tensor loss = Tensor::zeros({2});
  const ApgdProgress p = apgd_progress(x, x, loss, 1);
  CHECK_THROWS_WITH(update(p, x, other, loss, 0, 0.75),
                    "apgd_progress: gradient must be float32 [2, 3], got float32 [3, 2]");
  CHECK_THROWS_WITH(update(p, other.permuted({1, 0}), x, loss, 0, 0.75),
                    Catch::Contains("contiguous"));
  CHECK_THROWS_WITH(update(p, x, x, loss, -1, 0.75),
                    "apgd_progress: window must be >= 0 and rho finite, got -1 and 0.75");
}

}  // namespace moat::tests
