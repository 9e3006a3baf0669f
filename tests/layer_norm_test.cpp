#include "engine/ops/layer_norm.h"

#include <omp.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "engine/ops/elementwise.h"
#include "engine/tape.h"
#include "tests/op_case.h"

using namespace moat::engine;
using Catch::Matchers::Contains;
using moat::tests::f64;
using moat::tests::randn;

TEST_CASE("layer_norm: statistics hold when the mean is large beside the deviation",
          "[layer_norm]") {
  // 2^20 + 4 is the mean, and 3 or -3 the distance from it: exact in float32.
  for (int64_t width : {2, 50, 1000}) {
    const Tensor x = Tensor::empty({1, width});
    for (int64_t i = 0; i < width; ++i) x.data_as<float>()[i] = 1048580.0f + (i % 2 ? 3.0f : -3.0f);
    const auto y = layer_norm(x, {}, {}).to_vector<float>();
    for (size_t i = 0; i < y.size(); ++i) CHECK(y[i] == Approx(i % 2 ? 1 : -1).epsilon(1e-6));
  }
}

TEST_CASE("layer_norm: equal values give beta, a NaN or an infinity its own row alone",
          "[layer_norm]") {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::nanf("");
  const Tensor x = Tensor::from<float>({7, 7, 7, 1, nan, 2, inf, 3, 4, 1, 2, 3}, {4, 3});
  const auto y =
      layer_norm(x, Tensor::full({3}, 2), Tensor::from<float>({1, 2, 3}, {3})).to_vector<float>();
  CHECK(std::vector<float>(y.begin(), y.begin() + 3) == std::vector<float>{1, 2, 3});
  for (size_t i = 3; i < 9; ++i) CHECK(std::isnan(y[i]));
  for (size_t i = 9; i < 12; ++i) CHECK(std::isfinite(y[i]));
}

TEST_CASE("layer_norm: the same bits for every number of threads, and for a row in any company",
          "[layer_norm]") {
  const Tensor x = randn({3001, 24}), d_y = randn({3001, 24}, 1), gamma = randn({24}, 2),
               beta = randn({24}, 3);
  // In float64, where another order of the sums shows.
  const int threads = omp_get_max_threads();
  std::vector<std::vector<double>> first;
  for (int n : {1, 2, 3, 5}) {
    omp_set_num_threads(n);
    Tape tape;
    const Tensor v = tape.watch(x), g = tape.watch(gamma), b = tape.watch(beta);
    const Tensor y = layer_norm(v, g, b);
    const Gradients d = tape.gradients(y, d_y);
    const std::vector<std::vector<double>> results = {
        y.to_vector<double>(), d.of(v).to_vector<double>(), d.of(g).to_vector<double>(),
        d.of(b).to_vector<double>()};
    if (n == 1) first = results;
    CHECK(results == first);
  }
  omp_set_num_threads(threads);
  const auto row = layer_norm(x.sliced(0, 77, 78), gamma, beta).to_vector<double>();
  CHECK(row == std::vector<double>(first[0].begin() + 77 * 24, first[0].begin() + 78 * 24));
}

TEST_CASE("layer_norm: behind a relu its gradient stops where the relu did", "[layer_norm]") {
  const Tensor x = randn({6, 9}, 1), gamma = randn({9}, 2), beta = randn({9}, 3),
               d_y = randn({6, 9}, 4), h = relu(x);
  Tape tape;
  const Tensor v = tape.watch(x), rectified = relu(v);
  const Tensor y = add(layer_norm(rectified, gamma, beta), rectified);
  const Tensor got = tape.gradients(y, d_y).of(v);
  Tape plain;
  const Tensor w = plain.watch(h);
  const Tensor d_h = plain.gradients(layer_norm(w, gamma, beta), d_y).of(w);
  const Tensor want = behind_relu(add(d_h, d_y), h);
  for (int64_t i = 0; i < x.size(); ++i) CHECK(f64(got)[i] == Approx(f64(want)[i]).epsilon(1e-12));
}

TEST_CASE("layer_norm says what it was given", "[layer_norm]") {
  const Tensor x = Tensor::zeros({2, 3}), row = Tensor::zeros({3});
  CHECK_THROWS_WITH(layer_norm(Tensor::zeros({2, 0}), {}, {}),
                    Contains("layer_norm: x must be floating-point [..., width], got float32 "
                             "[2, 0]"));
  CHECK_THROWS_WITH(layer_norm(Tensor::zeros({3}, Dtype::i32), {}, {}),
                    Contains("x must be floating-point [..., width], got int32 [3]"));
  CHECK_THROWS_WITH(layer_norm(x, row, {}),
                    Contains("layer_norm: gamma and beta come together, got gamma alone"));
  CHECK_THROWS_WITH(layer_norm(x, {}, row), Contains("got beta alone"));
  CHECK_THROWS_WITH(layer_norm(x, Tensor::zeros({2}), row),
                    Contains("layer_norm: gamma must be float32 [3], got float32 [2]"));
  CHECK_THROWS_WITH(layer_norm(x, row, row.to(Dtype::f64)),
                    Contains("layer_norm: beta must be float32 [3], got float64 [3]"));
  CHECK_THROWS_WITH(layer_norm(x, row, row, 0),
                    Contains("layer_norm: epsilon must be positive, got 0"));
}
