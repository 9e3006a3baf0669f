#include "kernels/basic/finite.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "tests/cuda/device_memory.h"
#include "tests/random_values.h"

namespace moat::tests {

using namespace kernels;

namespace {

// Of x[offset ..), twice into the same result: counts do not add up.
template <class T>
void check(const std::vector<T>& x, size_t offset, const std::vector<int64_t>& want) {
  INFO(x.size() << " values from " << offset);
  const DeviceArray<T> device_x(x);
  const DeviceArray<int64_t> found(2);
  for (int i = 0; i < 2; ++i) {
    REQUIRE(run<Finite>(finite, {.x = device_x.data() + offset,
                                 .count = int64_t(x.size() - offset),
                                 .found = found.data(),
                                 .dtype = dtype_of<T>}) == Status::ok);
    REQUIRE(found.host() == want);
  }
}

// Finite values but for one of `wild` at each of `places`.
template <class T>
void check_places(size_t count, std::vector<size_t> places, double wild) {
  std::sort(places.begin(), places.end());
  for (size_t offset : {0, 1}) {
    // The value before the first is not finite and not to be seen.
    std::vector<T> x = rounded<T>(normals(count + offset, 3, 100));
    if (offset > 0) x[0] = T(std::numeric_limits<float>::infinity());
    for (size_t i : places) x[i + offset] = T(static_cast<compute_t<T>>(wild));
    check(x, offset, {int64_t(places.size()), int64_t(places.empty() ? count : places.front())});
  }
}

}  // namespace

TEMPLATE_TEST_CASE("cuda: finite counts NaN and infinities and finds the first", "[cuda][finite]",
                   double, float, Bf16) {
  const double inf = std::numeric_limits<double>::infinity();
  for (size_t count : {0, 1, 7, 300, 2048, 5001}) {
    check_places<TestType>(count, {}, 0);
    if (count == 0) continue;
    for (double wild : {inf, -inf, std::nan("")}) {
      check_places<TestType>(count, {0}, wild);
      check_places<TestType>(count, {count - 1}, wild);
    }
    std::vector<size_t> all(count), odd;
    for (size_t i = 0; i < count; ++i) {
      all[i] = i;
      if (i % 2 == 1) odd.push_back(i);
    }
    check_places<TestType>(count, all, inf);
    check_places<TestType>(count, odd, inf);
  }
  check_places<TestType>(5001, {4998, 2500, 2499, 4096, 700}, inf);
}

TEST_CASE("cuda: finite takes the largest, the smallest and no NaN for finite", "[cuda][finite]") {
  // Largest, smallest and smallest normal values, both zeros; then two NaN of the lowest payload
  // and an infinity.
  check<float>({std::bit_cast<float>(0x7f7fffffu), std::bit_cast<float>(0xff7fffffu),
                std::bit_cast<float>(1u), std::bit_cast<float>(0x00800000u), 0.0f, -0.0f,
                std::bit_cast<float>(0x7f800001u), std::bit_cast<float>(0xff800001u),
                std::bit_cast<float>(0xff800000u)},
               0, {3, 6});
  check<double>(
      {std::bit_cast<double>(uint64_t{0x7fefffffffffffff}),
       std::bit_cast<double>(uint64_t{0xffefffffffffffff}), std::bit_cast<double>(uint64_t{1}),
       std::bit_cast<double>(uint64_t{0x0010000000000000}), 0.0, -0.0,
       std::bit_cast<double>(uint64_t{0x7ff0000000000001}),
       std::bit_cast<double>(uint64_t{0xfff0000000000001}),
       std::bit_cast<double>(uint64_t{0xfff0000000000000})},
      0, {3, 6});
  std::vector<Bf16> x;
  for (uint16_t bits : {0x7f7f, 0xff7f, 0x0001, 0x0080, 0x0000, 0x8000, 0x7f81, 0xff81, 0xff80})
    x.push_back(std::bit_cast<Bf16>(bits));
  check(x, 0, {3, 6});
}

TEST_CASE("cuda: finite refuses negative counts and integers before any launch", "[cuda][finite]") {
  CHECK(finite(Cuda{}, {.count = -1, .dtype = Dtype::f32}) == Status::bad_args);
  CHECK(finite(Cuda{}, {.count = 1, .dtype = Dtype::i32}) != Status::ok);
}

}  // namespace moat::tests
