#include "kernels/vision/pool2d.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "tests/cuda/device_memory.h"
#include "tests/random_values.h"
#include "tests/same_bits.h"

namespace moat::tests {

using namespace kernels;

namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

size_t input_count(const PoolGeometry& g) {
  return size_t(g.n) * size_t(g.height) * size_t(g.width) * size_t(g.channels);
}
size_t output_count(const PoolGeometry& g) {
  return size_t(g.n) * size_t(g.out_height()) * size_t(g.out_width()) * size_t(g.channels);
}

std::string described(const PoolGeometry& g) {
  return "images " + std::to_string(g.n) + "x" + std::to_string(g.height) + "x" +
         std::to_string(g.width) + "x" + std::to_string(g.channels) + ", window " +
         std::to_string(g.window_height) + "x" + std::to_string(g.window_width) + ", stride " +
         std::to_string(g.stride) + ", padding " + std::to_string(g.padding);
}

// The same comparisons, and the same sums in the same order: the same bits as on the CPU. Images
// and winners start so many values after a multiple of 256 bytes.
template <class T>
void check_max(const PoolGeometry& g, const std::vector<double>& values, size_t offset = 0,
               size_t winners_offset = 0) {
  INFO("max, " << described(g) << ", offset " << offset);
  std::vector<T> x = rounded<T>(values), want(output_count(g)), want_d_x(input_count(g));
  std::vector<int32_t> want_winners(want.size());
  REQUIRE(max_pool2d(Cpu{}, {x.data(), want.data(), want_winners.data(), g, dtype_of<T>}) ==
          Status::ok);
  const std::vector<T> d_y = rounded<T>(normals(want.size(), 7));
  REQUIRE(max_pool2d_grad(Cpu{}, {d_y.data(), want_winners.data(), want_d_x.data(), g,
                                  dtype_of<T>}) == Status::ok);

  x.insert(x.begin(), offset, T());
  const DeviceArray<T> device_x(x), y(want.size()), y_alone(want.size()), device_d_y(d_y),
      d_x(want_d_x.size());
  const DeviceArray<int32_t> winners(want.size() + winners_offset);
  int32_t* const at_winners = winners.data() + winners_offset;
  const T* const at_x = device_x.data() + offset;
  REQUIRE(run<MaxPool2d>(max_pool2d, {at_x, y.data(), at_winners, g, dtype_of<T>}) == Status::ok);
  REQUIRE(same_bits(y.host(), want));
  const std::vector<int32_t> got = winners.host();
  REQUIRE(std::equal(want_winners.begin(), want_winners.end(),
                     got.begin() + static_cast<int64_t>(winners_offset)));
  REQUIRE(run<MaxPool2d>(max_pool2d, {at_x, y_alone.data(), nullptr, g, dtype_of<T>}) ==
          Status::ok);
  REQUIRE(same_bits(y_alone.host(), want));
  REQUIRE(run<MaxPool2dGrad>(max_pool2d_grad, {device_d_y.data(), at_winners, d_x.data(), g,
                                               dtype_of<T>}) == Status::ok);
  REQUIRE(same_bits(d_x.host(), want_d_x));
}

// Means of values of about 1 in the order of the lanes; gradients in the order of the CPU.
template <class T>
void check_avg(const PoolGeometry& g, size_t offset = 0) {
  INFO("avg, " << described(g) << ", offset " << offset);
  std::vector<T> x = rounded<T>(normals(input_count(g), 3)), want_d_x(input_count(g));
  const std::vector<double> wide = widened(x);
  std::vector<double> want(output_count(g));
  REQUIRE(avg_pool2d(Cpu{}, {wide.data(), want.data(), g, Dtype::f64}) == Status::ok);
  const std::vector<T> d_y = rounded<T>(normals(want.size(), 8));
  REQUIRE(avg_pool2d_grad(Cpu{}, {d_y.data(), want_d_x.data(), g, dtype_of<T>}) == Status::ok);

  x.insert(x.begin(), offset, T());
  const DeviceArray<T> device_x(x), y(want.size()), device_d_y(d_y), d_x(want_d_x.size() + offset);
  REQUIRE(run<AvgPool2d>(avg_pool2d, {device_x.data() + offset, y.data(), g, dtype_of<T>}) ==
          Status::ok);
  const std::vector<double> got = widened(y.host());
  const double area = double(g.window_height) * g.window_width;
  for (size_t i = 0; i < want.size(); ++i) {
    INFO("element " << i << ": " << got[i] << ", reference " << want[i]);
    REQUIRE(std::abs(got[i] - want[i]) <=
            roundoff<T> * std::abs(want[i]) + 4 * area * roundoff<compute_t<T>>);
  }
  REQUIRE(run<AvgPool2dGrad>(avg_pool2d_grad, {device_d_y.data(), d_x.data() + offset, g,
                                               dtype_of<T>}) == Status::ok);
  const std::vector<T> got_d_x = d_x.host();
  REQUIRE(std::memcmp(got_d_x.data() + offset, want_d_x.data(), want_d_x.size() * sizeof(T)) == 0);
}

// n, height, width, channels, window, stride, padding
const PoolGeometry kPools[] = {{2, 5, 7, 3, 2, 2, 2, 0},  {1, 6, 5, 8, 3, 3, 2, 1},
                               {2, 4, 4, 16, 3, 3, 1, 1}, {1, 7, 6, 5, 3, 2, 3, 1},
                               {1, 1, 1, 1, 1, 1, 1, 0},  {0, 4, 4, 8, 2, 2, 2, 0},
                               {1, 5, 5, 8, 2, 2, 3, 0},  {3, 3, 2, 40, 2, 2, 1, 1}};

}  // namespace

TEMPLATE_TEST_CASE("cuda: max_pool2d and its gradient equal the CPU", "[cuda][pool2d]", double,
                   float, Bf16) {
  for (const PoolGeometry& g : kPools) {
    check_max<TestType>(g, normals(input_count(g), 1));
    check_max<TestType>(g, integers<double>(input_count(g), 2, 0, 3));  // ties
  }
  for (size_t offset : {1u, 2u}) {
    check_max<TestType>(kPools[1], normals(240, 3), offset);
    check_max<TestType>(kPools[1], normals(240, 3), 0, offset);
  }
}

TEST_CASE("cuda: max_pool2d takes the first NaN, and infinities", "[cuda][pool2d]") {
  const double inf = std::numeric_limits<double>::infinity();
  std::vector<double> x = normals(240, 5);
  for (size_t i = 0; i < x.size(); i += 7) x[i] = kNan;
  for (size_t i = 3; i < x.size(); i += 5) x[i] = i % 2 ? inf : -inf;
  check_max<float>({1, 6, 5, 8, 3, 3, 2, 1}, x);
  check_max<float>({1, 2, 2, 1, 2, 2, 1, 0}, {-inf, -inf, -inf, -inf});
}

TEMPLATE_TEST_CASE("cuda: avg_pool2d equals its float64 reference, its gradient the CPU",
                   "[cuda][pool2d]", double, float, Bf16) {
  for (PoolGeometry g : kPools) {
    g.padding = 0;
    if (g.height >= g.window_height && g.width >= g.window_width) check_avg<TestType>(g);
  }
  for (size_t offset : {1u, 2u}) check_avg<TestType>({1, 4, 4, 16, 2, 2, 2, 0}, offset);
}

TEMPLATE_TEST_CASE("cuda: avg_pool2d of whole images shares a window", "[cuda][pool2d]", double,
                   float, Bf16) {
  check_avg<TestType>({2, 8, 8, 24, 8, 8, 1, 0});
  check_avg<TestType>({3, 7, 5, 3, 7, 5, 1, 0});
  check_avg<TestType>({1, 9, 8, 8, 8, 4, 1, 0});
  check_avg<TestType>({2, 6, 6, 130, 6, 6, 1, 0}, 1);
}

TEST_CASE("cuda: pools refuse bad geometry before any launch", "[cuda][pool2d]") {
  const PoolGeometry good{1, 4, 4, 2, 2, 2, 2, 0};
  PoolGeometry padded = good, wide = good, none = good;
  padded.padding = 2;
  wide.window_width = 5;
  none.stride = 0;
  for (const PoolGeometry& g : {padded, wide, none}) {
    CHECK(max_pool2d(Cuda{}, {nullptr, nullptr, nullptr, g, Dtype::f32}) == Status::bad_args);
    CHECK(max_pool2d_grad(Cuda{}, {nullptr, nullptr, nullptr, g, Dtype::f32}) == Status::bad_args);
    CHECK(avg_pool2d(Cuda{}, {nullptr, nullptr, g, Dtype::f32}) == Status::bad_args);
    CHECK(avg_pool2d_grad(Cuda{}, {nullptr, nullptr, g, Dtype::f32}) == Status::bad_args);
  }
  padded.padding = 1;  // averages have none
  CHECK(avg_pool2d(Cuda{}, {nullptr, nullptr, padded, Dtype::f32}) == Status::bad_args);
  CHECK(avg_pool2d_grad(Cuda{}, {nullptr, nullptr, padded, Dtype::f32}) == Status::bad_args);
  CHECK(max_pool2d_grad(Cuda{}, {nullptr, nullptr, nullptr, good, Dtype::f32}) == Status::bad_args);
  CHECK(max_pool2d(Cuda{}, {nullptr, nullptr, nullptr, good, Dtype::i32}) == Status::unsupported);
}

}  // namespace moat::tests
