#include "kernels/basic/count.h"

#include <limits>

#include "tests/cuda/device_memory.h"
#include "tests/random_values.h"

namespace moat::tests {

using namespace kernels;

namespace {

void check_equal(const std::vector<int32_t>& a, const std::vector<int32_t>& b) {
  INFO(a.size() << " pairs");
  const auto count = static_cast<int64_t>(a.size());
  int64_t want = -1;
  REQUIRE(count_equal(Cpu{}, {a.data(), b.data(), count, &want}) == Status::ok);
  const DeviceArray<int32_t> device_a(a), device_b(b);
  const DeviceArray<int64_t> equal(1);
  REQUIRE(run<CountEqual>(count_equal, {device_a.data(), device_b.data(), count, equal.data()}) ==
          Status::ok);
  REQUIRE(equal.host()[0] == want);
}

void check_bins(const std::vector<int32_t>& x, int bins) {
  INFO(x.size() << " values, " << bins << " bins");
  const auto count = static_cast<int64_t>(x.size());
  std::vector<int32_t> want(static_cast<size_t>(bins), -1);
  REQUIRE(bin_count(Cpu{}, {x.data(), count, bins, want.data()}) == Status::ok);
  const DeviceArray<int32_t> device_x(x), counts(want.size());
  REQUIRE(run<BinCount>(bin_count, {device_x.data(), count, bins, counts.data()}) == Status::ok);
  REQUIRE(counts.host() == want);
}

}  // namespace

TEST_CASE("cuda: count_equal equals the CPU", "[cuda][count]") {
  for (size_t count : {0u, 1u, 33u, 700u, 20003u})
    check_equal(integers<int32_t>(count, 1, -1, 2), integers<int32_t>(count, 2, -1, 2));
  check_equal(std::vector<int32_t>(600, 7), std::vector<int32_t>(600, 7));
}

TEST_CASE("cuda: bin_count equals the CPU", "[cuda][count]") {
  const int32_t most = std::numeric_limits<int32_t>::max();
  check_bins({2, 0, 2, 3, -1, 5, 4, most, -most - 1}, 5);
  for (size_t count : {0u, 1u, 700u, 20003u})
    for (int bins : {0, 1, 9, 1025}) check_bins(integers<int32_t>(count, 3, -2, bins + 2), bins);
  check_bins(std::vector<int32_t>(9000, 4), 6);
}

TEST_CASE("cuda: bin_count of more bins than a block has room for", "[cuda][count]") {
  check_bins(integers<int32_t>(600, 5, 0, 9000), 9000);
  check_bins({8999, 9000, -1, 0, 1 << 30}, 9000);
  check_bins({}, 9000);
}

TEST_CASE("cuda: counts refuse negative extents before any launch", "[cuda][count]") {
  CHECK(count_equal(Cuda{}, {.count = -1}) == Status::bad_args);
  CHECK(bin_count(Cuda{}, {.count = -1}) == Status::bad_args);
  CHECK(bin_count(Cuda{}, {.bins = -1}) == Status::bad_args);
}

}  // namespace moat::tests
