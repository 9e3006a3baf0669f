#include "train/statistics.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <vector>

#include "engine/error.h"

namespace moat::train {

TEST_CASE("wilson interval: known values") {
  // Newcombe 1998, table I, method 3: 81/263, 15/148, 0/20, 1/29.
  struct Row {
    int64_t k, n;
    double low, high;
  };
  for (const Row& row : {Row{81, 263, .2553, .3662}, Row{15, 148, .0624, .1605},
                         Row{0, 20, .0, .1611}, Row{1, 29, .0061, .1718}}) {
    const Interval interval = wilson_interval(row.k, row.n);
    CHECK(interval.low == Approx(row.low).margin(5e-5));
    CHECK(interval.high == Approx(row.high).margin(5e-5));
  }
  // 10,000 images at 50 %: ± 0.98 points.
  CHECK(wilson_interval(5000, 10000).high == Approx(.5098).margin(5e-5));
}

TEST_CASE("wilson interval: ends, symmetry, no trials, nonsense") {
  CHECK(wilson_interval(0, 7).low == 0);
  CHECK(wilson_interval(7, 7).high == 1);
  CHECK(wilson_interval(0, 0).low == 0);
  CHECK(wilson_interval(0, 0).high == 1);
  CHECK(wilson_interval(3, 11).low == Approx(1 - wilson_interval(8, 11).high));
  CHECK_THROWS_AS(wilson_interval(8, 7), engine::Error);
  CHECK_THROWS_AS(wilson_interval(-1, 7), engine::Error);
}

TEST_CASE("exact sign test") {  // sums of binomial coefficients, in whole numbers
  CHECK(sign_test(0, 0) == 1);
  CHECK(sign_test(0, 5) == Approx(2.0 / 32));
  CHECK(sign_test(5, 0) == Approx(2.0 / 32));
  CHECK(sign_test(3, 3) == 1);
  CHECK(sign_test(37, 56) == Approx(0.06138589870445953).epsilon(1e-9));
  CHECK(sign_test(600, 500) == Approx(0.0028195449914364275).epsilon(1e-9));
}

TEST_CASE("mean and deviation") {
  const std::vector<double> values{2, 4, 4, 4, 5, 5, 7, 9};
  CHECK(mean_deviation(values).mean == Approx(5));
  CHECK(mean_deviation(values).deviation == Approx(std::sqrt(32.0 / 7)));
  CHECK(mean_deviation(std::vector<double>{3}).deviation == 0);
  CHECK(std::isnan(mean_deviation({}).mean));
}

TEST_CASE("median") {
  CHECK(median({3, 1, 2}) == 2);
  CHECK(median({4, 1, 2, 3}) == 2.5);
  CHECK(median({}) == 0);
}

TEST_CASE("normalized entropy") {
  CHECK(normalized_entropy(std::vector<int64_t>{5, 5, 5}) == Approx(1));
  CHECK(normalized_entropy(std::vector<int64_t>{9, 0}) == 0);
  CHECK(normalized_entropy(std::vector<int64_t>{3, 1}) == Approx(.8112781).epsilon(1e-6));
  CHECK(normalized_entropy(std::vector<int64_t>{7}) == 0);
  CHECK(normalized_entropy(std::vector<int64_t>{0, 0}) == 0);
}

}  // namespace moat::train
