#include "kernels/basic/reduce.h"

#include <cmath>
#include <limits>

#include "tests/cuda/device_memory.h"
#include "tests/random_values.h"
#include "tests/same_bits.h"

namespace moat::tests {

using namespace kernels;

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity(),
                 kNan = std::numeric_limits<double>::quiet_NaN();

struct View {
  int64_t outer, axis, inner;
  size_t count() const { return size_t(outer * axis * inner); }
  size_t reduced() const { return size_t(outer * inner); }
};

// x starts `offset` values after a multiple of 256 bytes.
template <class T, class Y = T>
std::vector<Y> sum_on_device(const View& v, const std::vector<T>& x, size_t offset = 0) {
  const DeviceArray<T> device_x(shifted(x, offset));
  const DeviceArray<Y> y(v.reduced());
  const SumAxis a{
      device_x.data() + offset, y.data(), v.outer, v.axis, v.inner, dtype_of<T>, dtype_of<Y>};
  REQUIRE(run<SumAxis>(sum, a, sum_workspace(Cuda{}, a)) == Status::ok);
  return y.host();
}

std::vector<double> sum_on_cpu(const View& v, const std::vector<double>& x) {
  std::vector<double> y(v.reduced());
  const SumAxis a{x.data(), y.data(), v.outer, v.axis, v.inner, Dtype::f64, Dtype::f64};
  std::vector<char> scratch(sum_workspace(Cpu{}, a));
  REQUIRE(sum(Cpu{.workspace = scratch.data(), .workspace_bytes = scratch.size()}, a) ==
          Status::ok);
  return y;
}

// Sums are in float64 whatever T is: one rounding to Y, and the order.
template <class T, class Y = T>
void check_sum(const View& v) {
  INFO("sum [" << v.outer << ", " << v.axis << ", " << v.inner << "]");
  const std::vector<T> x = rounded<T>(normals(v.count(), unsigned(v.axis)));
  std::vector<double> absolute = widened(x);
  for (double& value : absolute) value = std::abs(value);
  const std::vector<double> want = sum_on_cpu(v, widened(x)), size = sum_on_cpu(v, absolute);
  const std::vector<Y> got = sum_on_device<T, Y>(v, x);
  for (size_t i = 0; i < want.size(); ++i) {
    const double y = static_cast<compute_t<Y>>(got[i]);
    INFO("element " << i << ": " << y << ", reference " << want[i]);
    REQUIRE(std::abs(y - want[i]) <=
            1.01 * roundoff<Y> * std::abs(want[i]) + double(v.axis) * roundoff<double> * size[i]);
  }
  REQUIRE(same_bits(got, sum_on_device<T, Y>(v, x)));
}

template <class T>
void check_max(const View& v, const std::vector<double>& values) {
  INFO("max [" << v.outer << ", " << v.axis << ", " << v.inner << "]");
  const std::vector<T> x = rounded<T>(values);
  std::vector<T> want_y(v.reduced());
  std::vector<int32_t> want(v.reduced());
  const auto args = [&](const T* from, T* y, int32_t* index) {
    return MaxAxis{from, y, index, v.outer, v.axis, v.inner, dtype_of<T>};
  };
  REQUIRE(max_axis(Cpu{}, args(x.data(), want_y.data(), want.data())) == Status::ok);
  const DeviceArray<T> device_x(x), y(v.reduced());
  const DeviceArray<int32_t> index(v.reduced()), index_alone(v.reduced());
  REQUIRE(run<MaxAxis>(max_axis, args(device_x.data(), y.data(), index.data())) == Status::ok);
  REQUIRE(index.host() == want);
  REQUIRE(same_bits(y.host(), want_y));
  REQUIRE(run<MaxAxis>(max_axis, args(device_x.data(), nullptr, index_alone.data())) == Status::ok);
  REQUIRE(index_alone.host() == want);

  const auto d_y = rounded<T>(normals(v.reduced(), 5));
  std::vector<T> want_d_x(v.count());
  const auto grad = [&](const T* d, const int32_t* at, T* d_x) {
    return MaxAxisGrad{d, at, d_x, v.outer, v.axis, v.inner, dtype_of<T>};
  };
  REQUIRE(max_axis_grad(Cpu{}, grad(d_y.data(), want.data(), want_d_x.data())) == Status::ok);
  const DeviceArray<T> device_d_y(d_y), d_x(v.count());
  REQUIRE(run<MaxAxisGrad>(max_axis_grad, grad(device_d_y.data(), index.data(), d_x.data())) ==
          Status::ok);
  REQUIRE(same_bits(d_x.host(), want_d_x));
}

const View kViews[] = {{3, 1, 1},   {1, 7, 1},    {5, 10, 1},  {2, 300, 1}, {2, 3, 5},
                       {1, 70, 24}, {2, 9, 40},   {1, 5, 300}, {300, 3, 1}, {1, 40, 3},
                       {4, 17, 8},  {2, 2, 1000}, {0, 4, 4},   {3, 4, 0}};

}  // namespace

TEMPLATE_TEST_CASE("cuda: sum equals its float64 reference", "[cuda][reduce]", double, float,
                   Bf16) {
  for (const View& v : kViews) check_sum<TestType>(v);
  check_sum<TestType>({2, 0, 3});
}

TEST_CASE("cuda: sums of bfloat16 in float32, in one piece and in blocks", "[cuda][reduce]") {
  for (const View& v : kViews) check_sum<Bf16, float>(v);
  check_sum<Bf16, float>({1, 5000, 24});
  const float x = 0;
  REQUIRE(sum(Cuda{}, {&x, nullptr, 1, 1, 1, Dtype::f32, Dtype::bf16}) == Status::bad_args);
}

TEMPLATE_TEST_CASE("cuda: sum of a long axis runs in blocks", "[cuda][reduce]", double, float,
                   Bf16) {
  check_sum<TestType>({1, 20001, 1});
  check_sum<TestType>({2, 1100, 24});
  check_sum<TestType>({1, 300, 258});
}

TEST_CASE("cuda: a sum depends neither on its neighbours nor on its address", "[cuda][reduce]") {
  for (const View& v : {View{3, 9000, 1}, {3, 50, 1}, {2, 400, 128}, {2, 1030, 8}}) {
    INFO("[" << v.outer << ", " << v.axis << ", " << v.inner << "]");
    const std::vector<double> x = normals(v.count(), 3, 1.1);  // no order sums them exactly
    const std::vector<double> all = sum_on_device(v, x);
    CHECK(same_bits(sum_on_device(v, x, 1), all));
    const auto slice = v.axis * v.inner;
    for (int64_t o = 0; o < v.outer; ++o) {
      const std::vector<double> mine(x.begin() + o * slice, x.begin() + (o + 1) * slice);
      CHECK(same_bits(
          sum_on_device({1, v.axis, v.inner}, mine),
          std::vector<double>(all.begin() + o * v.inner, all.begin() + (o + 1) * v.inner)));
    }
  }
}

TEST_CASE("cuda: sum of infinities and NaN", "[cuda][reduce]") {
  const std::vector<float> x = rounded<float>({kInf, 1, kInf, -kInf, kNan, 2}),
                           y = sum_on_device<float>({3, 2, 1}, x);
  CHECK(y[0] == kInf);
  CHECK(std::isnan(y[1]));
  CHECK(std::isnan(y[2]));
}

TEMPLATE_TEST_CASE("cuda: max_axis and its gradient equal the CPU", "[cuda][reduce]", double, float,
                   Bf16) {
  for (const View& v : kViews) {
    check_max<TestType>(v, normals(v.count(), 9));
    check_max<TestType>(v, integers<double>(v.count(), 9, 0, 3));  // ties
  }
  check_max<TestType>({1, 3000, 1}, integers<double>(3000, 2, 0, 200));
}

TEST_CASE("cuda: max_axis takes the first NaN, and infinities", "[cuda][reduce]") {
  std::vector<double> x = normals(1200, 4);
  check_max<float>({2, 4, 1}, {1, kNan, 7, kNan, -kInf, kInf, kInf, 0});
  check_max<float>({1, 4, 2}, {-kInf, kNan, -kInf, kNan, -kInf, 1, -kInf, 2});
  for (size_t i : {1150u, 700u, 333u}) {
    x[i] = kNan;
    check_max<float>({1, 1200, 1}, x);
    check_max<float>({1, 150, 8}, x);
    check_max<float>({2, 60, 10}, x);
  }
}

TEST_CASE("cuda: max_axis and its gradient at addresses that are not multiples of 16",
          "[cuda][reduce]") {
  const std::vector<float> x = rounded<float>(normals(5 * 8 + 1, 6));
  const DeviceArray<float> device_x(x), y(8), d_x(5 * 8 + 1);
  const DeviceArray<int32_t> index(8);
  REQUIRE(run<MaxAxis>(max_axis, {device_x.data() + 1, y.data(), index.data(), 1, 5, 8,
                                  Dtype::f32}) == Status::ok);
  REQUIRE(run<MaxAxisGrad>(max_axis_grad, {y.data(), index.data(), d_x.data() + 1, 1, 5, 8,
                                           Dtype::f32}) == Status::ok);
  const std::vector<float> spread = d_x.host(), largest = y.host();
  CHECK(std::isnan(spread[0]));
  for (size_t i = 0; i < 8; ++i) {
    float want = x[1 + i];
    for (size_t a = 1; a < 5; ++a) want = std::max(want, x[1 + a * 8 + i]);
    CHECK(largest[i] == want);
    for (size_t a = 0; a < 5; ++a)
      CHECK(spread[1 + a * 8 + i] == (x[1 + a * 8 + i] == want ? want : 0));
  }
}

TEST_CASE("cuda: max_axis_grad gives nobody what an index outside the axis has", "[cuda][reduce]") {
  const DeviceArray<float> d_y(std::vector<float>{1, 2, 3}), d_x(6);
  const DeviceArray<int32_t> index(std::vector<int32_t>{2, -1, 1});
  REQUIRE(run<MaxAxisGrad>(max_axis_grad, {d_y.data(), index.data(), d_x.data(), 3, 2, 1,
                                           Dtype::f32}) == Status::ok);
  CHECK(d_x.host() == std::vector<float>{0, 0, 0, 0, 0, 3});
}

TEST_CASE("cuda: reductions refuse bad arguments before any launch", "[cuda][reduce]") {
  const Dtype f32 = Dtype::f32;
  CHECK(sum(Cuda{}, {nullptr, nullptr, -1, 1, 1, f32}) == Status::bad_args);
  CHECK(sum(Cuda{}, {nullptr, nullptr, 1, -1, 1, f32}) == Status::bad_args);
  CHECK(sum(Cuda{}, {nullptr, nullptr, 1, 1, 1, Dtype::i32, Dtype::i32}) == Status::unsupported);
  CHECK(sum(Cuda{}, {nullptr, nullptr, 1, 1 << 20, 1, f32}) == Status::small_workspace);
  CHECK(max_axis(Cuda{}, {nullptr, nullptr, nullptr, 1, 0, 1, f32}) == Status::bad_args);
  CHECK(max_axis(Cuda{}, {nullptr, nullptr, nullptr, 1, int64_t{1} << 31, 1, f32}) ==
        Status::bad_args);
  CHECK(max_axis(Cuda{}, {nullptr, nullptr, nullptr, 1, 1, -1, f32}) == Status::bad_args);
  CHECK(max_axis(Cuda{}, {nullptr, nullptr, nullptr, 1, 1, 1, Dtype::u8}) == Status::unsupported);
  CHECK(max_axis_grad(Cuda{}, {nullptr, nullptr, nullptr, -1, 1, 1, f32}) == Status::bad_args);
}

}  // namespace moat::tests
