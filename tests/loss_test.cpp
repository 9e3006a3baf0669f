#include "engine/ops/loss.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "engine/ops/reduce.h"
#include "engine/tape.h"
#include "tests/op_case.h"

namespace moat::tests {

using namespace engine;

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Gradients of the sum of loss(inputs) for every input.
template <class Loss>
Tensors gradients_of(Tensors inputs, Loss loss) {
  Tape tape;
  for (Tensor& x : inputs) x = tape.watch(x);
  const Gradients grads = tape.gradients(sum(loss(inputs)));
  Tensors out;
  for (const Tensor& x : inputs) out.push_back(grads.of(x));
  return out;
}

bool all_finite(const Tensor& t) {
  for (double v : t.to(Dtype::f64).to_vector<double>())
    if (!std::isfinite(v)) return false;
  return true;
}

}  // namespace

TEST_CASE("KL divergence is finite and right for a logit gap of 1e5", "[loss]") {
  const Tensor p = Tensor::from<float>({1e5f, 0, -1e5f, 0, 1e5f, 0, 3, 3, 3}, {3, 3});
  const Tensor q = Tensor::from<float>({-1e5f, 0, 1e5f, 0, 1e5f, 0, 3, 3, 3}, {3, 3});
  const auto values = kl_divergence(p, q).to_vector<float>();
  CHECK(values[0] == 2e5f);  // all of P on class 0, where log Q = -2e5
  CHECK(values[1] == 0);
  CHECK(values[2] == 0);
  const Tensors d =
      gradients_of({p, q}, [](const Tensors& in) { return kl_divergence(in[0], in[1]); });
  CHECK(all_finite(d[0]));
  CHECK(all_finite(d[1]));
  CHECK(d[1].to_vector<float>()[0] == -1);
  CHECK(d[1].to_vector<float>()[2] == 1);
}

TEST_CASE("KL divergence of near rows keeps its digits in float32", "[loss]") {
  const Tensor p = randn({1, 10}, 1).to(Dtype::f32), q = p.clone();
  q.data_as<float>()[3] += 1e-3f;
  const double exact = kl_divergence(p.to(Dtype::f64), q.to(Dtype::f64)).item();
  CHECK(exact > 0);
  CHECK(kl_divergence(p, q).item() == Approx(exact).epsilon(1e-6));
}

TEST_CASE("a class that P excludes adds nothing to the KL divergence", "[loss]") {
  const Tensor p = Tensor::from<float>({0, -kInf}, {1, 2}), q = Tensor::from<float>({0, 0}, {1, 2});
  CHECK(kl_divergence(p, q).item() == Approx(std::log(2)));
  CHECK(kl_divergence(q, p).item() == kInf);
}

TEST_CASE("cross-entropy keeps its digits when the label's logit towers", "[loss]") {
  const Tensor z = Tensor::from<float>({40, 0, 0}, {1, 3}), y = Tensor::from<int32_t>({0}, {1});
  const double others = 2 * std::exp(-40.0);
  CHECK(cross_entropy(z, y).item() == Approx(others).epsilon(1e-6));
  const auto d = gradients_of({z}, [&](const Tensors& in) { return cross_entropy(in[0], y); })[0]
                     .to_vector<float>();
  CHECK(d[0] == Approx(-others).epsilon(1e-6));
  CHECK(d[1] == Approx(others / 2).epsilon(1e-6));
}

// p_y - 1 written naively is 0 in float32 beyond a margin of 17: an attack would stand still.
TEST_CASE("cross-entropy: the label's slope is the other classes' share at any margin", "[loss]") {
  for (double margin : {20.0, 50.0, 80.0})
    for (const Dtype dtype : {Dtype::f32, Dtype::f64}) {
      INFO("margin " << margin << ", " << name_of(dtype));
      const Tensor z = Tensor::from<double>({-1, margin, 0, -3}, {1, 4}).to(dtype),
                   y = Tensor::from<int32_t>({1}, {1});
      const auto d =
          gradients_of({z}, [&](const Tensors& in) { return cross_entropy(in[0], y); })[0]
              .to(Dtype::f64)
              .to_vector<double>();
      double others = 0, total = 1;  // in units of exp(margin)
      for (double x : {-1.0, 0.0, -3.0}) others += std::exp(x - margin);
      total += others;
      const double tolerance = dtype == Dtype::f32 ? 1e-7 : 1e-14;
      CHECK(std::abs(d[1] / (-others / total) - 1) < tolerance);
      CHECK(std::abs(d[0] / (std::exp(-1 - margin) / total) - 1) < tolerance);
      CHECK(std::abs(d[2] / (std::exp(-margin) / total) - 1) < tolerance);
      CHECK(std::abs(d[3] / (std::exp(-3 - margin) / total) - 1) < tolerance);
    }
}

TEST_CASE("cross-entropy survives gaps of 1e5 both ways", "[loss]") {
  const Tensor z = Tensor::from<float>({1e5f, -1e5f, -1e5f, 1e5f}, {2, 2});
  const Tensor y = Tensor::from<int32_t>({0, 0}, {2});
  CHECK(cross_entropy(z, y).to_vector<float>() == std::vector<float>{0, 2e5f});
  const auto d = gradients_of({z}, [&](const Tensors& in) { return cross_entropy(in[0], y); })[0]
                     .to_vector<float>();
  CHECK(d == std::vector<float>{0, 0, -1, 1});
}

TEST_CASE("a NaN, a +inf or nothing but -inf makes the softmax of its row NaN", "[loss]") {
  const Tensor z =
      Tensor::from<float>({0, kNan, 1, kInf, 0, 1, -kInf, -kInf, -kInf, 0, -kInf, 0}, {4, 3});
  const auto y = softmax(z).to_vector<float>();
  for (size_t i = 0; i < 9; ++i) CHECK(std::isnan(y[i]));
  CHECK(y[9] == 0.5f);
  CHECK(y[10] == 0);
  CHECK(y[11] == 0.5f);
}

TEST_CASE("margin: the gradient goes to the first maximum, a NaN wins", "[loss]") {
  const Tensor z = Tensor::from<float>({2, 5, 5, 1, 3, 3, 3, 3}, {2, 4});
  const Tensor y = Tensor::from<int32_t>({3, 0}, {2});
  CHECK(margin(z, y).to_vector<float>() == std::vector<float>{4, 0});
  const auto d =
      gradients_of({z}, [&](const Tensors& in) { return margin(in[0], y); })[0].to_vector<float>();
  CHECK(d == std::vector<float>{0, 1, 0, -1, -1, 1, 0, 0});
  const Tensor wild = Tensor::from<float>({1, kNan, 2}, {1, 3});
  CHECK(std::isnan(margin(wild, Tensor::from<int32_t>({0}, {1})).item()));
}

TEST_CASE("a row's loss does not depend on the other rows", "[loss]") {
  const Tensor p = randn({1000, 10}, 2).to(Dtype::f32), q = randn({1000, 10}, 3).to(Dtype::f32);
  const auto all = kl_divergence(p, q).to_vector<float>();
  const Tensor one = kl_divergence(p.sliced(0, 617, 618), q.sliced(0, 617, 618));
  CHECK(one.to_vector<float>()[0] == all[617]);
}

TEST_CASE("losses say which label is wrong", "[loss]") {
  const Tensor z = Tensor::zeros({3, 4});
  CHECK_THROWS_WITH(cross_entropy(z, Tensor::from<int32_t>({0, 3, 4}, {3})),
                    "cross_entropy: labels must be in [0, 4), got 4 in row 2");
  CHECK_THROWS_WITH(margin(z, Tensor::from<int32_t>({0, -1, 0}, {3})),
                    "margin: labels must be in [0, 4), got -1 in row 1");
  CHECK_THROWS_WITH(cross_entropy(z, Tensor::from<int32_t>({0}, {1})),
                    "cross_entropy: labels must be int32 [3], got int32 [1]");
  CHECK_THROWS_WITH(margin(Tensor::zeros({2, 1}), Tensor::from<int32_t>({0, 0}, {2})),
                    Catch::Contains("two classes"));
  CHECK_THROWS_WITH(kl_divergence(z, Tensor::zeros({3, 5})), Catch::Contains("[3, 5]"));
  CHECK_THROWS_WITH(softmax(Tensor::scalar(1)), Catch::Contains("at least one axis"));
}

}  // namespace moat::tests
