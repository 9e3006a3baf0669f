#include "engine/random.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>

#include "kernels/basic/philox.h"

using namespace moat::engine;
using Catch::Matchers::Contains;
namespace kernels = moat::kernels;

namespace {

Tensor ids(const std::vector<int32_t>& values) {
  return Tensor::from<int32_t>(values, {static_cast<int64_t>(values.size())});
}

// Largest distance of the empirical distribution from `cdf` (Kolmogorov-Smirnov).
template <class F>
double distance_from(std::vector<double> values, F cdf) {
  std::sort(values.begin(), values.end());
  const auto n = static_cast<double>(values.size());
  double worst = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const double p = cdf(values[i]);
    worst = std::max({worst, std::abs(p - double(i) / n), std::abs(p - double(i + 1) / n)});
  }
  return worst;
}

}  // namespace

TEST_CASE("philox gives the published vectors") {
  using kernels::philox;
  using Block = kernels::PhiloxBlock;
  CHECK(philox({0, 0, 0, 0}, 0) == Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  const uint32_t ones = 0xffffffff;
  CHECK(philox({ones, ones, ones, ones}, ~uint64_t{0}) ==
        Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, 0x299f31d0a4093822) ==
        Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("the logarithm, exponential, sine and cosine of the draws are as good as the library's") {
  for (uint32_t i = 0; i < 20000; ++i) {
    const auto bits = kernels::philox({i, 0, 0, 0}, 3);
    const double x = (bits[0] + 0.5) * std::pow(2.0, -static_cast<double>(i % 40));
    CHECK(kernels::exact_log(x) == Approx(std::log(x)).epsilon(1e-15).margin(1e-15));
    const double y = -700 * std::pow(bits[2] * std::pow(2.0, -32), i % 5 + 1);
    CHECK(kernels::exact_exp(y) == Approx(std::exp(y)).epsilon(1e-15).margin(0));
    const auto [sine, cosine] = kernels::sin_cos_turns(bits[1]);
    const double angle = bits[1] * std::pow(2.0, -32) * 2 * M_PI;
    CHECK(sine == Approx(std::sin(angle)).margin(2e-15));
    CHECK(cosine == Approx(std::cos(angle)).margin(2e-15));
  }
  for (uint32_t corner :
       {0u, 1u, 0x1fffffffu, 0x20000000u, 0x7fffffffu, 0xe0000000u, 0xffffffffu}) {
    const auto [sine, cosine] = kernels::sin_cos_turns(corner);
    CHECK(sine * sine + cosine * cosine == Approx(1).epsilon(1e-15));
  }
  CHECK(kernels::exact_exp(0) == 1);
  CHECK(kernels::exact_exp(-700) == Approx(std::exp(-700)).epsilon(1e-15).margin(0));
  // The ends of the radius.
  CHECK(std::abs(kernels::normal_pair(0, 0)[0]) == Approx(6.7637).epsilon(1e-3));
  CHECK(std::abs(kernels::normal_pair(0xffffffff, 0)[0]) < 1e-4);
}

TEST_CASE("uniform draws: range, mean, variance, distribution") {
  const Tensor x = random_uniform(
      {100, 1000}, Tensor::from<int32_t>(random_permutation(100, {}), {100}), {.seed = 11}, 0, 1);
  std::vector<double> values;
  double sum = 0, squares = 0;
  for (float v : x.to_vector<float>()) {
    values.push_back(v);
    sum += v;
    squares += double(v) * v;
  }
  const auto n = static_cast<double>(values.size());
  CHECK(*std::min_element(values.begin(), values.end()) >= 0);
  CHECK(*std::max_element(values.begin(), values.end()) < 1);
  // Within four standard errors.
  CHECK(std::abs(sum / n - 0.5) < 4 * std::sqrt(1.0 / 12 / n));
  CHECK(std::abs(squares / n - 1.0 / 3) < 4 * std::sqrt(4.0 / 45 / n));
  // The 0.1 % point of the Kolmogorov-Smirnov statistic.
  CHECK(distance_from(values, [](double v) { return v; }) < 1.95 / std::sqrt(n));
}

TEST_CASE("normal draws: mean, variance, distribution, independence of a pair") {
  const auto x = random_normal({1, 100000}, ids({5}), {.seed = 12}, 0, 1).to_vector<float>();
  std::vector<double> values(x.begin(), x.end());
  const auto n = static_cast<double>(values.size());
  double sum = 0, squares = 0, pairs = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    sum += values[i];
    squares += values[i] * values[i];
    if (i % 2) pairs += values[i] * values[i - 1];
  }
  CHECK(std::abs(sum / n) < 4 / std::sqrt(n));
  CHECK(std::abs(squares / n - 1) < 4 * std::sqrt(2 / n));
  CHECK(std::abs(pairs / (n / 2)) < 4 / std::sqrt(n / 2));
  CHECK(distance_from(values, [](double v) { return 0.5 * std::erfc(-v / std::sqrt(2.0)); }) <
        1.95 / std::sqrt(n));
}

TEST_CASE("draws depend on the sample's id alone, not on its place in the batch") {
  const RandomKey key{.seed = 3, .purpose = Purpose::attack_start, .iteration = 0, .stream = 7};
  const auto all = random_normal({3, 5}, ids({4, 9, 2}), key, 0, 1).to_vector<float>();
  const auto one = random_normal({1, 5}, ids({9}), key, 0, 1).to_vector<float>();
  CHECK(std::equal(one.begin(), one.end(), all.begin() + 5));
}

TEST_CASE("every part of the key changes the draws") {
  const RandomKey key{.seed = 3};
  const uint32_t first = random_bits(key, 1, 0);
  CHECK(random_bits({.seed = 4}, 1, 0) != first);
  CHECK(random_bits({.seed = 3 + (uint64_t{1} << 32)}, 1, 0) != first);
  CHECK(random_bits({.seed = 3, .purpose = Purpose::shuffle}, 1, 0) != first);
  CHECK(random_bits({.seed = 3, .iteration = 1}, 1, 0) != first);
  CHECK(random_bits({.seed = 3, .stream = 1}, 1, 0) != first);
  CHECK(random_bits(key, 2, 0) != first);
  CHECK(random_bits(key, 1, 1) != first);
}

TEST_CASE("an image is numbered in the order (C, H, W), and every dtype holds the same draws") {
  const RandomKey key{.seed = 8};
  const int h = 3, w = 2, c = 3;
  const auto nhwc =
      random_uniform({1, h, w, c}, ids({6}), key, -1, 1, Dtype::f64).to_vector<double>();
  const auto flat = random_uniform({1, c * h * w}, ids({6}), key, -1, 1).to_vector<float>();
  for (int ch = 0; ch < c; ++ch)
    for (int y = 0; y < h; ++y)
      for (int x = 0; x < w; ++x) {
        const int element = (ch * h + y) * w + x;
        const double value = nhwc[static_cast<size_t>((y * w + x) * c + ch)];
        CHECK(static_cast<float>(value) == flat[static_cast<size_t>(element)]);
        const uint32_t bits = random_bits(key, 6, static_cast<uint32_t>(element));
        CHECK(value == -1 + 2 * kernels::unit_uniform(bits));
      }
}

TEST_CASE("random_permutation is a permutation that depends on the key") {
  auto order = random_permutation(1000, {.seed = 1});
  CHECK(order == random_permutation(1000, {.seed = 1}));
  CHECK(order != random_permutation(1000, {.seed = 2}));
  int moved = 0;
  for (int i = 0; i < 1000; ++i) moved += order[static_cast<size_t>(i)] != i;
  CHECK(moved > 980);
  std::sort(order.begin(), order.end());
  for (int i = 0; i < 1000; ++i) CHECK(order[static_cast<size_t>(i)] == i);
  CHECK(random_permutation(0, {}).empty());
  // The six orders of three: each a sixth of the time, within five standard errors.
  std::vector<int> count(27);
  for (uint64_t seed = 0; seed < 6000; ++seed) {
    const auto p = random_permutation(3, {.seed = seed});
    ++count[static_cast<size_t>(p[0] * 9 + p[1] * 3 + p[2])];
  }
  for (int n : count) CHECK((n == 0 || std::abs(n - 1000) < 5 * std::sqrt(6000.0 * 5 / 36)));
}

TEST_CASE("random: bad input is named") {
  CHECK_THROWS_WITH(random_uniform({2, 3}, ids({1}), {}, 0, 1),
                    Contains("one id per row of [2, 3]"));
  CHECK_THROWS_WITH(random_uniform({1}, Tensor::zeros({1}), {}, 0, 1), Contains("int32"));
  CHECK_THROWS_WITH(random_bits({.stream = 1u << 24}, 0), Contains("below 2^24"));
}
