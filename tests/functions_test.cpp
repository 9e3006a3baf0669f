#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "kernels/basic/exponential.h"
#include "kernels/basic/normal_cdf.h"
#include "kernels/experts/activation_functions.h"

namespace moat::kernels {

namespace {

constexpr double kRoundoff = std::numeric_limits<float>::epsilon() / 2;

// The largest relative error, in units of roundoff, over evenly spaced float32 values; results
// below `least` do not count.
template <class F, class Reference>
double worst_error(float from, float to, double least, F&& f, Reference&& reference) {
  constexpr int kValues = 400'000;
  double worst = 0;
  for (int i = 0; i <= kValues; ++i) {
    const float x = from + (to - from) * static_cast<float>(i) / kValues;
    const double exact = reference(static_cast<double>(x));
    if (std::abs(exact) >= least)
      worst = std::max(worst, std::abs(f(x) - exact) / std::abs(exact) / kRoundoff);
  }
  return worst;
}

}  // namespace

TEST_CASE("functions: the exponential of what is not positive", "[functions]") {
  const auto exact = [](double x) { return std::exp(x); };
  CHECK(worst_error(
            -87, 0, 0, [](float x) { return exp_not_positive(x); }, exact) < 2.5);
  CHECK(worst_error(
            -1, 0, 0, [](float x) { return exp_not_positive(x); }, exact) < 2.5);
  CHECK(exp_not_positive(0.0f) == 1.0f);
  CHECK(exp_not_positive(-87.5f) == 0.0f);
  CHECK(exp_not_positive(-std::numeric_limits<float>::infinity()) == 0.0f);
  CHECK(std::isnan(exp_not_positive(std::numeric_limits<float>::quiet_NaN())));
}

TEST_CASE("functions: the normal distribution, far tails included", "[functions]") {
  constexpr double kRoot = 0.70710678118654752440;
  CHECK(worst_error(
            -12.9f, 6, 1e-37, [](float x) { return normal_at(x).cdf; },
            [](double x) { return 0.5 * std::erfc(-x * kRoot); }) < 7);
  CHECK(worst_error(
            -12.9f, 12.9f, 1e-37, [](float x) { return normal_at(x).density; },
            [](double x) { return 0.39894228040143267794 * std::exp(-x * x / 2); }) < 7);
  for (const float far : {15.0f, 1e10f, std::numeric_limits<float>::infinity()}) {
    CHECK(normal_at(far).cdf == 1.0f);
    CHECK(normal_at(-far).cdf == 0.0f);
    CHECK(normal_at(far).density == 0.0f);
  }
}

TEST_CASE("functions: SiLU on both sides of zero", "[functions]") {
  const auto exact = [](double x) { return x / (1 + std::exp(-x)); };
  CHECK(worst_error(
            -86, 86, 0, [](float x) { return Silu<float>::value(x); }, exact) < 7);
  CHECK(Silu<float>::value(-1e30f) == 0.0f);
  CHECK(Silu<float>::value(1e30f) == 1e30f);
}

}  // namespace moat::kernels
