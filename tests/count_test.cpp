#include "engine/ops/count.h"

#include <catch2/catch.hpp>
#include <limits>

#include "kernels/basic/count.h"
#include "tests/random_values.h"

namespace moat::tests {

using namespace engine;

namespace {

Tensor of(const std::vector<int32_t>& values) {
  return Tensor::from<int32_t>(values, {static_cast<int64_t>(values.size())});
}

}  // namespace

TEST_CASE("count_equal counts the pairs that are equal", "[count]") {
  CHECK(count_equal(of({1, 2, -3, 4}), of({1, 0, -3, 5})).to_vector<int64_t>() ==
        std::vector<int64_t>{2});
  CHECK(count_equal(of({}), of({})).to_vector<int64_t>() == std::vector<int64_t>{0});
  const auto a = integers<int32_t>(200001, 1, 0, 3), b = integers<int32_t>(200001, 2, 0, 3);
  int64_t want = 0;
  for (size_t i = 0; i < a.size(); ++i) want += a[i] == b[i];
  const Tensor equal = count_equal(of(a), of(b));
  CHECK(equal.shape() == Shape{1});
  CHECK(equal.to_vector<int64_t>()[0] == want);
}

TEST_CASE("bin_count counts every bin and nothing outside", "[count]") {
  const int32_t most = std::numeric_limits<int32_t>::max(), least = -most - 1;
  CHECK(bin_count(of({2, 0, 2, 3, -1, 5, 4, most, least}), 5).to_vector<int32_t>() ==
        std::vector<int32_t>{1, 0, 2, 1, 1});
  CHECK(bin_count(of({}), 2).to_vector<int32_t>() == std::vector<int32_t>{0, 0});
  CHECK(bin_count(of({0, 1}), 0).size() == 0);
}

TEST_CASE("counts read a strided view as it is seen", "[count]") {
  const Tensor x = Tensor::from<int32_t>({0, 1, 2, 3, 4, 5}, {2, 3});
  const Tensor middle = x.sliced(1, 1, 2);  // 1, 4
  CHECK(bin_count(middle, 5).to_vector<int32_t>() == std::vector<int32_t>{0, 1, 0, 0, 1});
  CHECK(count_equal(middle, Tensor::from<int32_t>({1, 5}, {2, 1})).to_vector<int64_t>()[0] == 1);
}

TEST_CASE("counts say what must hold", "[count]") {
  CHECK_THROWS_WITH(count_equal(of({1}), of({1, 2})), Catch::Contains("one shape"));
  CHECK_THROWS_WITH(count_equal(of({1}), Tensor::zeros({1})), Catch::Contains("int32"));
  CHECK_THROWS_WITH(bin_count(Tensor::zeros({1}), 3), Catch::Contains("int32"));
  CHECK_THROWS_WITH(bin_count(Tensor{}, 3), Catch::Contains("nothing"));
  CHECK_THROWS_WITH(bin_count(of({1}), -1), Catch::Contains(">= 0"));
  kernels::CountEqual pairs{};
  pairs.count = -1;
  CHECK(kernels::count_equal(kernels::Cpu{}, pairs) == kernels::Status::bad_args);
  kernels::BinCount values{}, bins{};
  values.count = bins.bins = -1;
  CHECK(kernels::bin_count(kernels::Cpu{}, values) == kernels::Status::bad_args);
  CHECK(kernels::bin_count(kernels::Cpu{}, bins) == kernels::Status::bad_args);
}

}  // namespace moat::tests
