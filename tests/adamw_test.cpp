#include "engine/optim/adamw.h"

#include <catch2/catch.hpp>
#include <cmath>

#include "engine/ops/elementwise.h"
#include "engine/ops/reduce.h"
#include "engine/optim/flat.h"
#include "engine/tape.h"
#include "kernels/update/adamw.h"

namespace moat::tests {

using namespace engine;

namespace {

// Five steps from two weights with the gradients of a quadratic, 2 w, and an outlier.
constexpr int kSteps = 5;
double slope(double w, int step) { return step == 3 ? -40 : 2 * w + 0.25 * step; }

// PyTorch's formula (torch.optim.AdamW, single tensor) with the powers of each step's own t.
std::vector<double> reference(std::vector<double> w, const AdamwOptions& o, double factor = 1) {
  std::vector<double> m(w.size()), v(w.size());
  for (int t = 1; t <= kSteps; ++t)
    for (size_t i = 0; i < w.size(); ++i) {
      const double g = slope(w[i], t - 1), lr = o.lr * factor;
      w[i] *= 1 - lr * o.weight_decay;
      m[i] = o.beta1 * m[i] + (1 - o.beta1) * g;
      v[i] = o.beta2 * v[i] + (1 - o.beta2) * g * g;
      const double step_size = lr / (1 - std::pow(o.beta1, t));
      const double denominator = std::sqrt(v[i]) / std::sqrt(1 - std::pow(o.beta2, t)) + o.eps;
      w[i] -= step_size * m[i] / denominator;
    }
  return w;
}

std::vector<double> after_steps(const std::vector<double>& start, const AdamwOptions& options,
                                Dtype dtype, const Tensor& lr_factor = {}) {
  const auto n = static_cast<int64_t>(start.size());
  const Tensor w = Tensor::from(start, {n}).to(dtype), m = Tensor::zeros({n}, dtype),
               v = Tensor::zeros({n}, dtype), powers = Tensor::full({2}, 1, Dtype::f64);
  for (int t = 0; t < kSteps; ++t) {
    std::vector<double> g;
    for (double x : w.to(Dtype::f64).to_vector<double>()) g.push_back(slope(x, t));
    adamw_step(w, Tensor::from(g, {n}).to(dtype), {m, v, powers}, options, {}, lr_factor);
  }
  return w.to(Dtype::f64).to_vector<double>();
}

}  // namespace

TEST_CASE("AdamW is PyTorch's formula for five steps", "[adamw]") {
  const std::vector<double> start{1, -0.5};
  for (const AdamwOptions& options :
       {AdamwOptions{}, AdamwOptions{.lr = 0.1, .weight_decay = 0.25},
        AdamwOptions{.lr = 0.1, .beta1 = 0.5, .beta2 = 0.9, .eps = 0.1},
        AdamwOptions{.lr = 0.05, .beta1 = 0, .beta2 = 0}}) {
    const auto want = reference(start, options);
    for (const auto& [dtype, within] : {std::pair{Dtype::f64, 1e-13}, {Dtype::f32, 1e-5}}) {
      const auto got = after_steps(start, options, dtype);
      for (size_t i = 0; i < want.size(); ++i) CHECK(got[i] == Approx(want[i]).epsilon(within));
    }
  }
  // torch.optim.AdamW([1.], lr=0.1, weight_decay=0.25), gradients 2, by hand:
  // w = 0.975 - 0.1 · 2 / (2 + 1e-8) after the first step.
  const Tensor w = Tensor::full({1}, 1, Dtype::f64), zero = Tensor::zeros({1}, Dtype::f64);
  adamw_step(w, Tensor::full({1}, 2, Dtype::f64),
             {zero, zero.clone(), Tensor::full({2}, 1, Dtype::f64)},
             {.lr = 0.1, .weight_decay = 0.25});
  CHECK(w.item() == Approx(0.875).epsilon(1e-8));
}

TEST_CASE("AdamW multiplies its rate by a factor on the device", "[adamw]") {
  const AdamwOptions options{.lr = 0.1, .weight_decay = 0.25};
  const auto want = reference({1, -0.5}, options, 0.25);
  const auto got = after_steps({1, -0.5}, options, Dtype::f64, Tensor::full({1}, 0.25, Dtype::f64));
  for (size_t i = 0; i < want.size(); ++i) CHECK(got[i] == Approx(want[i]).epsilon(1e-13));
}

TEST_CASE("AdamW: a step that is skipped changes nothing and is not counted", "[adamw]") {
  float w = 1, m = 2, v = 3;
  const float d_w = 3;
  double powers[] = {0.5, 0.25};
  int64_t skip = int64_t{1} << 32;
  const kernels::Adamw a{.weights = &w,
                         .gradients = &d_w,
                         .first_moment = &m,
                         .second_moment = &v,
                         .powers = powers,
                         .count = 1,
                         .lr = 0.5,
                         .beta1 = 0.5,
                         .beta2 = 0.5,
                         .eps = 1,
                         .weight_decay = 0,
                         .dtype = Dtype::f32,
                         .skip = &skip};
  REQUIRE(kernels::adamw(kernels::Cpu{}, a) == kernels::Status::ok);
  CHECK(std::vector{w, m, v} == std::vector{1.f, 2.f, 3.f});
  CHECK(powers[0] == 0.5);
  CHECK(powers[1] == 0.25);
  skip = 0;
  REQUIRE(kernels::adamw(kernels::Cpu{}, a) == kernels::Status::ok);
  CHECK(m == 2.5f);
  CHECK(v == 6);
  CHECK(powers[0] == 0.25);
  CHECK(powers[1] == 0.125);
}

TEST_CASE("AdamW gives what it writes another version", "[adamw]") {
  const Tensor w = Tensor::zeros({100000}), m = w.clone(), v = w.clone(),
               powers = Tensor::full({2}, 1, Dtype::f64);
  const Tensor written[] = {w, m, v, powers};
  std::vector<uint64_t> before;
  for (const Tensor& t : written) before.push_back(t.version());
  adamw_step(w, Tensor::full({100000}, 1), {m, v, powers}, {});
  for (size_t i = 0; i < before.size(); ++i) CHECK(written[i].version() != before[i]);
  for (float x : w.to_vector<float>()) REQUIRE(x == Approx(-1e-3));
  const Tensor none = Tensor::zeros({0});
  adamw_step(none, none, {none, none, powers}, {});
}

TEST_CASE("AdamW says what must hold", "[adamw]") {
  const Tensor w = Tensor::zeros({2}), powers = Tensor::full({2}, 1, Dtype::f64);
  CHECK_THROWS_WITH(adamw_step(w, Tensor::zeros({3}), {w, w, powers}, {}),
                    "adamw_step: gradients must be contiguous float32 [2] like the weights, got "
                    "float32 [3]");
  CHECK_THROWS_WITH(adamw_step(w, w, {w, {}, powers}, {}),
                    Catch::Contains("the second moment") && Catch::Contains("got nothing"));
  CHECK_THROWS_WITH(adamw_step(w, w, {w, w, w}, {}), Catch::Contains("powers must be"));
  CHECK_THROWS_WITH(
      adamw_step(w, w, {w, w, powers}, {.beta2 = 1}),
      Catch::Contains("both betas from 0 to below 1") && Catch::Contains("got 0.001"));
  CHECK_THROWS_WITH(adamw_step(w, w, {w, w, powers}, {}, {}, w),
                    Catch::Contains("lr_factor must be float64 [1]"));
  CHECK_THROWS_WITH(adamw_step(w, w, {w, w, powers}, {}, {}, {}, w),
                    Catch::Contains("decayed must be contiguous uint8 [2]"));
}

TEST_CASE("flat parameters step by either optimizer", "[adamw]") {
  const auto stepped = [](auto options, double factor, int steps) {
    Tensor w = Tensor::from(std::vector<float>{1, -2, 3}, {3});
    FlatParameters flat({{"w", &w, Role::parameter}});
    flat.set_lr_factor(factor);
    for (int i = 0; i < steps; ++i) {
      Tape tape;
      flat.watch(tape);
      flat.collect(tape.gradients(sum(square(w))));
      flat.step(options);
    }
    CHECK(flat.second_moment().defined() == std::is_same_v<decltype(options), AdamwOptions>);
    return w.to_vector<float>();
  };
  CHECK(stepped(SgdOptions{.lr = 0.25}, 1, 1) == std::vector<float>{0.5f, -1, 1.5f});
  CHECK(stepped(SgdOptions{.lr = 0.25}, 0.5, 1) == std::vector<float>{0.75f, -1.5f, 2.25f});
  const auto moved = stepped(AdamwOptions{.lr = 0.5, .eps = 1e-12}, 0.5, 1);
  const std::vector<float> want{0.75f, -1.75f, 2.75f};
  for (size_t i = 0; i < want.size(); ++i) CHECK(moved[i] == Approx(want[i]));
  CHECK(stepped(AdamwOptions{.lr = 0.5}, 1, 2) != stepped(AdamwOptions{.lr = 0.5}, 1, 1));
}

TEST_CASE("flat parameters: decay of kernels alone", "[adamw][sgd]") {
  for (bool is_adamw : {false, true}) {
    Tensor w = Tensor::full({2, 2}, 1), bias = Tensor::full({2}, 1), norm = Tensor::full({2}, 1),
           biases = Tensor::full({2, 3}, 1), places = Tensor::full({1, 2, 3}, 1);
    FlatParameters flat({{"fc.bias", &bias, Role::parameter},
                         {"fc.weight", &w, Role::parameter},
                         {"bn.weight", &norm, Role::parameter},
                         {"experts.fc1.bias", &biases, Role::parameter},
                         {"pos_embed", &places, Role::parameter}});
    flat.decay_kernels_alone();
    if (is_adamw)
      flat.step(AdamwOptions{.lr = 0.5, .weight_decay = 0.5});  // the gradients are zero
    else
      flat.step(SgdOptions{.lr = 0.5, .weight_decay = 0.5});
    CHECK(w.to_vector<float>() == std::vector<float>(4, 0.75f));
    for (const Tensor* kept : {&bias, &norm, &biases, &places})
      for (float v : kept->to_vector<float>()) CHECK(v == 1);
  }
}

TEST_CASE("flat parameters climb relative to each tensor's norm", "[adamw]") {
  Tensor w = Tensor::from(std::vector<float>{3, 4, 0, 0}, {2, 2}), bias = Tensor::full({2}, 5),
         idle = Tensor::full({1, 2}, 7);
  FlatParameters flat({{"w", &w, Role::parameter},
                       {"bias", &bias, Role::parameter},
                       {"idle", &idle, Role::parameter}});
  Tape tape;
  flat.watch(tape);
  // Slopes: of w (0, 0, 0, 8), of the bias 1.
  flat.collect(tape.gradients(
      add(sum(mul(w, Tensor::from(std::vector<float>{0, 0, 0, 8}, {2, 2}))), sum(bias))));
  flat.climb(0.5);
  CHECK(w.to_vector<float>() == std::vector<float>{3, 4, 0, 2.5f});  // ‖w‖ = 5
  CHECK(bias.to_vector<float>() == std::vector<float>{5, 5});
  CHECK(idle.to_vector<float>() == std::vector<float>{7, 7});
}

}  // namespace moat::tests
