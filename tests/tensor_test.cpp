#include "engine/tensor.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

using namespace moat::engine;
using Catch::Matchers::Contains;

namespace {
Tensor counting(const Shape& shape) {
  const Tensor t = Tensor::empty(shape);
  for (int64_t i = 0; i < t.size(); ++i) t.data_as<float>()[i] = static_cast<float>(i);
  return t;
}
using Floats = std::vector<float>;
}  // namespace

TEST_CASE("a copy of a tensor shares its bytes, a clone does not") {
  const Tensor a = counting({3}), shared = a, cloned = a.clone();
  a.fill(7);
  CHECK(shared.to_vector<float>() == Floats{7, 7, 7});
  CHECK(cloned.to_vector<float>() == Floats{0, 1, 2});
  CHECK_FALSE(Tensor{}.defined());
  CHECK_FALSE(Tensor{}.clone().defined());
  CHECK(Tensor{}.data() == nullptr);
}

TEST_CASE("views share bytes and know their layout") {
  const Tensor x = counting({2, 3, 4});
  const Tensor t = x.permuted({2, 0, 1});
  CHECK(t.shape() == Shape{4, 2, 3});
  CHECK_FALSE(t.is_contiguous());
  CHECK(t.contiguous().to_vector<float>()[1 * 6 + 1 * 3 + 2] == 1 * 12 + 2 * 4 + 1);

  const Tensor s = x.sliced(1, 1, 3);
  CHECK(s.shape() == Shape{2, 2, 4});
  CHECK(s.to_vector<float>()[8] == 16);
  CHECK(x.sliced(0, 1, 2).is_contiguous());
  CHECK(x.sliced(-1, 2, 2).size() == 0);
  s.copy_from(Tensor::full({2, 2, 4}, -1));
  CHECK(x.to_vector<float>()[4] == -1);
  CHECK(x.to_vector<float>()[3] == 3);

  const Tensor e = counting({3, 1}).expanded({2, 3, 2});
  CHECK(e.to_vector<float>() == Floats{0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2});
  CHECK(x.reshaped({4, -1}).shape() == Shape{4, 6});
  CHECK(x.contiguous().data() == x.data());
}

TEST_CASE("conversions round to nearest even and keep NaN") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  // Bfloat16 keeps 8 bits: 257 and 259 lie halfway between neighbours.
  const Tensor x = Tensor::from<float>({257, 259, -1.5f, nan, 3.4e38f}, {5});
  const auto back = x.to(Dtype::bf16).to(Dtype::f32).to_vector<float>();
  CHECK(back[0] == 256);
  CHECK(back[1] == 260);
  CHECK(back[2] == -1.5f);
  CHECK(std::isnan(back[3]));
  CHECK(std::isinf(back[4]));
  CHECK(Tensor::from<uint8_t>({0, 255}, {2}).to(Dtype::f32).to_vector<float>() == Floats{0, 255});
  CHECK(Tensor::from<float>({2.9f, -2.9f}, {2}).to(Dtype::i32).to_vector<int32_t>() ==
        std::vector<int32_t>{2, -2});
  CHECK(x.to(Dtype::f32).data() == x.data());
  // A strided view converts as its copy does.
  const Tensor m = counting({2, 3}).permuted({1, 0});
  CHECK(m.to(Dtype::f64).to_vector<double>() == std::vector<double>{0, 3, 1, 4, 2, 5});
}

TEST_CASE("scalars and empty tensors") {
  CHECK(Tensor::scalar(2.5).item() == 2.5);
  CHECK(Tensor::scalar(2.5).rank() == 0);
  const Tensor none = Tensor::zeros({0, 3});
  CHECK(none.size() == 0);
  CHECK(none.is_contiguous());
  CHECK(none.to(Dtype::f64).to_vector<double>().empty());
  CHECK(none.clone().shape() == Shape{0, 3});
}

TEST_CASE("tensor errors say what must hold and what was given") {
  const Tensor x = counting({2, 3});
  CHECK_THROWS_WITH(Tensor::from<float>({1, 2}, {3}), Contains("[3] needs 3 values, got 2"));
  CHECK_THROWS_WITH(Tensor::empty({2, -1}), Contains("[2, -1]"));
  CHECK_THROWS_WITH(x.data_as<double>(), Contains("float64") && Contains("float32"));
  CHECK_THROWS_WITH(x.item(), Contains("[2, 3]"));
  CHECK_THROWS_WITH(x.dim(2), Contains("axis 2"));
  CHECK_THROWS_WITH(x.reshaped({4, 2}), Contains("[2, 3]"));
  CHECK_THROWS_WITH(x.permuted({0, 0}), Contains("[0, 0]"));
  CHECK_THROWS_WITH(x.sliced(1, 2, 4), Contains("[2, 4)"));
  CHECK_THROWS_WITH(x.expanded({2, 4}), Contains("[2, 3]"));
  CHECK_THROWS_WITH(x.copy_from(counting({3, 2})), Contains("[3, 2] into [2, 3]"));
  CHECK_THROWS_WITH(x.permuted({1, 0}).fill(0), Contains("contiguous"));
  CHECK_THROWS_AS((Shape{1, 1, 1, 1, 1, 1, 1}), Error);
  const int64_t large = int64_t{1} << 32;
  CHECK_THROWS_WITH(Tensor::empty({large, large}), Contains("less than 2^63 bytes"));
  CHECK_THROWS_WITH(Tensor::empty({large << 28}, Dtype::f64), Contains("less than 2^63 bytes"));
  CHECK_THROWS_WITH(Tensor::zeros({0}).reshaped({-1, -1}),
                    Contains("one that is -1, got [-1, -1]"));
  CHECK_THROWS_WITH(x.reshaped({-2, -3}), Contains("[-2, -3]"));
}

TEST_CASE("values of an undefined tensor are refused in one line", "[tensor]") {
  const Tensor none, one = Tensor::zeros({});
  CHECK_THROWS_WITH(none.to_vector<float>(), Contains("to_vector: the tensor must be defined"));
  CHECK_THROWS_WITH(none.item(), Contains("item(): the tensor must be defined"));
  CHECK_THROWS_WITH(none.fill(1), Contains("fill: the tensor must be defined"));
  CHECK_THROWS_WITH(none.copy_from(one), Contains("copy_from: the tensor must be defined"));
  CHECK_THROWS_WITH(one.copy_from(none), Contains("copy_from: the tensor must be defined"));
  CHECK_FALSE(none.contiguous().defined());
}

TEST_CASE("an error carries the place of its caller") {
  try {
    require(false, "x must hold");
    FAIL("require did not throw");
  } catch (const Error& error) {
    CHECK(std::string(error.where().file).find("tensor_test.cpp") != std::string::npos);
    CHECK(error.where().line > 0);
  }
  CHECK_THROWS_WITH(check(moat::kernels::Status::bad_args), Contains("contract"));
  CHECK_NOTHROW(check(moat::kernels::Status::ok));
}

TEST_CASE("to_int refuses what an int cannot hold") {
  CHECK(to_int(2147483647) == 2147483647);
  CHECK_THROWS_WITH(to_int(2147483648), Contains("2147483648"));
  CHECK_THROWS_WITH(to_int(-1), Contains("-1"));
}

TEST_CASE("shapes broadcast like NumPy's") {
  CHECK(broadcast({4, 1}, {3}) == Shape{4, 3});
  CHECK(broadcast({}, {2, 3}) == Shape{2, 3});
  CHECK(broadcast({1}, {0}) == Shape{0});
  CHECK_THROWS_WITH(broadcast({2}, {3}), Contains("[2] and [3]"));
  CHECK(Shape{}.count() == 1);
  CHECK(Shape{2, 3, 4}.contiguous_strides() == Shape{12, 4, 1});
  CHECK(Shape{2, 3}.str() == "[2, 3]");
}
