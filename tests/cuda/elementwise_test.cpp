#include "kernels/basic/elementwise.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "tests/cuda/device_memory.h"
#include "tests/random_values.h"

namespace moat::tests {

using namespace kernels;

namespace {

using Six = std::array<int64_t, 6>;

constexpr auto kUnaryOps = {UnaryOp::relu,   UnaryOp::exp,   UnaryOp::log,  UnaryOp::sqrt,
                            UnaryOp::square, UnaryOp::abs,   UnaryOp::sign, UnaryOp::tanh,
                            UnaryOp::clamp,  UnaryOp::affine};
constexpr auto kBinaryOps = {BinaryOp::add,     BinaryOp::sub,      BinaryOp::mul, BinaryOp::div,
                             BinaryOp::maximum, BinaryOp::at_least, BinaryOp::keep};
constexpr double kLow = -0.75, kHigh = 1.25;  // clamp's bounds, affine's scale and shift
constexpr double kInf = std::numeric_limits<double>::infinity();
const double kNan = std::nan("");

// |y - reference| <= units · roundoff · max(floor, |reference|).
struct Bound {
  double units, floor;
};

bool is_exact(UnaryOp op) {
  return op == UnaryOp::relu || op == UnaryOp::abs || op == UnaryOp::sign || op == UnaryOp::clamp;
}

// 2: one rounding, for bf16 a second one from float32. 8: CUDA's exp, log and tanh are within 2
// units in the last place (4 roundoffs), and roundings follow. The floor is 1 where terms of about
// 1 cancel.
Bound bound_of(UnaryOp op) {
  if (is_exact(op)) return {0, 0};
  if (op == UnaryOp::square || op == UnaryOp::sqrt) return {2, 0};
  if (op == UnaryOp::affine) return {4, 1};
  return {8, 0};
}
// Two products at most, but for what cancels: d_y (1 - y y), d_y up to 3.
Bound grad_bound_of(UnaryOp op) {
  if (is_exact(op)) return {0, 0};
  if (op == UnaryOp::tanh) return {8, 1};
  return {4, 0};
}

void require_within(const std::vector<double>& y, const std::vector<double>& reference, Bound bound,
                    double unit) {
  REQUIRE(y.size() == reference.size());
  for (size_t i = 0; i < y.size(); ++i) {
    INFO("element " << i << ": " << y[i] << ", reference " << reference[i]);
    const double size = std::abs(reference[i]);
    if (std::isnan(reference[i]))
      REQUIRE(std::isnan(y[i]));
    else if (std::isinf(reference[i]) || size == 0)
      REQUIRE((y[i] == reference[i] && std::signbit(y[i]) == std::signbit(reference[i])));
    else
      REQUIRE(std::abs(y[i] - reference[i]) <= bound.units * unit * std::max(bound.floor, size));
  }
}

// Device memory that starts on a vector, or one element after it.
template <class T>
class Shifted {
 public:
  Shifted(std::vector<T> values, bool by_one) : shift_(by_one), array_(framed(values, by_one)) {}
  T* data() const { return array_.data() + shift_; }
  // Nothing outside the values was written.
  std::vector<T> host() const {
    std::vector<T> all = array_.host();
    for (size_t i = 0; i < shift_; ++i) REQUIRE(double(all[i]) == kFrame);
    REQUIRE(double(all.back()) == kFrame);
    return {all.begin() + ptrdiff_t(shift_), all.end() - 1};
  }

 private:
  static constexpr double kFrame = 77;
  static std::vector<T> framed(std::vector<T> values, bool by_one) {
    if (by_one) values.insert(values.begin(), T(kFrame));
    values.push_back(T(kFrame));
    return values;
  }
  size_t shift_;
  DeviceArray<T> array_;
};

template <class T>
std::vector<T> unwritten(size_t count) {
  return std::vector<T>(count, T(-55));
}

// x -> y and d_y, saved -> d_x. Bits of `shifts`: which of the pointers is no multiple of a vector.
template <class T>
void check_unary(UnaryOp op, const std::vector<double>& values, unsigned shifts) {
  INFO("op " << int(op) << ", " << values.size() << " values, shifts " << shifts);
  const auto count = values.size();
  const std::vector<T> x = rounded<T>(values);
  const Shifted<T> device_x(x, shifts & 1), device_y(unwritten<T>(count), shifts & 2);
  Unary a{.x = device_x.data(),
          .y = device_y.data(),
          .count = int64_t(count),
          .op = op,
          .p = kLow,
          .q = kHigh,
          .dtype = dtype_of<T>};
  REQUIRE(run<Unary>(unary, a) == Status::ok);
  const std::vector<double> wide_x = widened(x);
  std::vector<double> y(count);
  a.x = wide_x.data();
  a.y = y.data();
  a.dtype = Dtype::f64;
  REQUIRE(unary(Cpu{}, a) == Status::ok);
  require_within(widened(device_y.host()), y, bound_of(op), roundoff<T>);

  const std::vector<T> d_y = rounded<T>(normals(count, 5, 0.5));
  const std::vector<T> saved = saved_by(op) == Saved::y ? device_y.host() : x;
  const Shifted<T> device_d_y(d_y, shifts & 1), device_saved(saved, shifts & 2),
      device_d_x(unwritten<T>(count), shifts & 4);
  UnaryGrad g{.d_y = device_d_y.data(),
              .saved = saved_by(op) == Saved::nothing ? nullptr : device_saved.data(),
              .d_x = device_d_x.data(),
              .count = int64_t(count),
              .op = op,
              .p = kLow,
              .q = kHigh,
              .dtype = dtype_of<T>};
  REQUIRE(run<UnaryGrad>(unary_grad, g) == Status::ok);
  const std::vector<double> wide_d_y = widened(d_y), wide_saved = widened(saved);
  std::vector<double> d_x(count);
  g.d_y = wide_d_y.data();
  g.saved = wide_saved.data();
  g.d_x = d_x.data();
  g.dtype = Dtype::f64;
  REQUIRE(unary_grad(Cpu{}, g) == Status::ok);
  require_within(widened(device_d_x.host()), d_x, grad_bound_of(op), roundoff<T>);
}

struct Shape {
  Six extents, a_strides, b_strides;
};

// Elements that strides reach; none are negative.
size_t reach(const Six& extents, const Six& strides) {
  int64_t last = 0;
  for (size_t i = 0; i < 6; ++i) {
    if (extents[i] == 0) return 0;
    last += (extents[i] - 1) * strides[i];
  }
  return size_t(last) + 1;
}

// Small integers, so that ties and zeros are met, between values of every size.
std::vector<double> with_ties(size_t count, unsigned seed) {
  std::vector<double> values = normals(count, seed, 2);
  const std::vector<double> small = integers<double>(count, seed + 1, -2, 3);
  for (size_t i = 0; i < count; ++i)
    if (i % 3 != seed % 3) values[i] = small[i];
  return values;
}

template <class T>
void check_binary(BinaryOp op, const Shape& shape, const std::vector<double>& a_values,
                  const std::vector<double>& b_values, unsigned shifts = 0) {
  INFO("op " << int(op) << ", shifts " << shifts);
  size_t count = 1;
  for (int64_t extent : shape.extents) count *= size_t(extent);
  const std::vector<T> a = rounded<T>(a_values), b = rounded<T>(b_values);
  const Shifted<T> device_a(a, shifts & 1), device_b(b, shifts & 2),
      device_y(unwritten<T>(count), shifts & 4);
  Binary args{.a = device_a.data(),
              .b = device_b.data(),
              .y = device_y.data(),
              .extents = shape.extents,
              .a_strides = shape.a_strides,
              .b_strides = shape.b_strides,
              .op = op,
              .dtype = dtype_of<T>};
  REQUIRE(run<Binary>(binary, args) == Status::ok);
  const std::vector<double> wide_a = widened(a), wide_b = widened(b);
  std::vector<double> y(count);
  args.a = wide_a.data();
  args.b = wide_b.data();
  args.y = y.data();
  args.dtype = Dtype::f64;
  REQUIRE(binary(Cpu{}, args) == Status::ok);
  const bool exact = op == BinaryOp::maximum || op == BinaryOp::at_least || op == BinaryOp::keep;
  require_within(widened(device_y.host()), y, {exact ? 0.0 : 2.0, 0}, roundoff<T>);
}

template <class T>
void check_binary(BinaryOp op, const Shape& shape, unsigned shifts = 0) {
  check_binary<T>(op, shape, with_ties(reach(shape.extents, shape.a_strides), 1),
                  with_ties(reach(shape.extents, shape.b_strides), 2), shifts);
}

Shape dense(int64_t count) {
  return {{1, 1, 1, 1, 1, count}, {0, 0, 0, 0, 0, 1}, {0, 0, 0, 0, 0, 1}};
}

}  // namespace

TEMPLATE_TEST_CASE("cuda: unary ops and gradients equal the CPU in float64", "[cuda][elementwise]",
                   double, float, Bf16) {
  for (UnaryOp op : kUnaryOps)
    for (const auto& [count, shifts] :
         {std::pair{0, 0u}, {1, 0u}, {37, 0u}, {2049, 0u}, {37, 1u}, {37, 2u}, {37, 4u}}) {
      std::vector<double> values = normals(size_t(count), 3, 3);
      if (op == UnaryOp::log || op == UnaryOp::sqrt)
        for (double& x : values) x = std::abs(x);
      check_unary<TestType>(op, values, shifts);
    }
}

TEMPLATE_TEST_CASE("cuda: unary ops of zeros, bounds, infinities and NaN", "[cuda][elementwise]",
                   double, float, Bf16) {
  for (UnaryOp op : kUnaryOps)
    check_unary<TestType>(
        op, {0.0, -0.0, 1, -1, kLow, kHigh, kInf, -kInf, kNan, 30, -30, kNan, 0x1p-60, -0x1p-60},
        0);
}

TEMPLATE_TEST_CASE("cuda: unary ops in place", "[cuda][elementwise]", double, float, Bf16) {
  using T = TestType;
  for (bool shifted : {false, true})
    for (UnaryOp op : {UnaryOp::square, UnaryOp::tanh}) {
      const std::vector<T> x = rounded<T>(normals(301, 7, 2));
      const Shifted<T> place(x, shifted), from(x, shifted), to(unwritten<T>(301), shifted);
      Unary a{.x = from.data(), .y = to.data(), .count = 301, .op = op, .dtype = dtype_of<T>};
      REQUIRE(run<Unary>(unary, a) == Status::ok);
      a.x = a.y = place.data();
      REQUIRE(run<Unary>(unary, a) == Status::ok);
      CHECK(widened(place.host()) == widened(to.host()));
    }
}

TEMPLATE_TEST_CASE("cuda: binary ops of dense operands equal the CPU in float64",
                   "[cuda][elementwise]", double, float, Bf16) {
  for (BinaryOp op : kBinaryOps)
    for (const auto& [count, shifts] : {std::pair{0, 0u},
                                        {1, 0u},
                                        {37, 0u},
                                        {64, 0u},
                                        {2049, 0u},
                                        {64, 1u},
                                        {64, 2u},
                                        {64, 4u},
                                        {37, 4u}})
      check_binary<TestType>(op, dense(count), unsigned(shifts));
}

TEMPLATE_TEST_CASE("cuda: binary ops broadcast and follow strides", "[cuda][elementwise]", double,
                   float, Bf16) {
  // Lines of 5 and 16 elements: without and with vectors.
  for (int64_t n : {5, 16}) {
    const Six extents = {1, 1, 1, 3, 7, n}, whole = {0, 0, 0, 7 * n, n, 1},
              row = {0, 0, 0, 0, 0, 1}, column = {0, 0, 0, 7, 1, 0}, scalar = {},
              middle = {0, 0, 0, n, 0, 1}, apart = {0, 0, 0, 7 * (n + 3), n + 3, 1},
              turned = {0, 0, 0, 7 * n, 1, 7}, spaced = {0, 0, 0, 14 * n, 2 * n, 2};
    for (const Six& other : {row, column, scalar, middle, apart, turned, spaced})
      for (BinaryOp op : {BinaryOp::sub, BinaryOp::keep})
        for (unsigned shifts : {0u, 1u}) {
          check_binary<TestType>(op, {extents, whole, other}, shifts);
          check_binary<TestType>(op, {extents, other, whole}, shifts);
          check_binary<TestType>(op, {extents, other, other}, shifts);
        }
    check_binary<TestType>(BinaryOp::sub, {extents, row, column});
    check_binary<TestType>(BinaryOp::sub, {extents, column, row});
    check_binary<TestType>(BinaryOp::sub, {extents, column, scalar});
  }
  // Six axes of which none can be merged, and an empty one.
  check_binary<TestType>(BinaryOp::sub,
                         {{2, 3, 2, 2, 3, 4}, {576, 192, 96, 48, 8, 1}, {1, 2, 6, 12, 24, 72}});
  check_binary<TestType>(BinaryOp::sub, {{2, 0, 1, 1, 1, 4}, {}, {0, 0, 0, 0, 0, 1}});
}

TEMPLATE_TEST_CASE("cuda: binary ops of zeros, ties, infinities and NaN", "[cuda][elementwise]",
                   double, float, Bf16) {
  const std::vector<double> each = {0.0, -0.0, 1, -1, kInf, -kInf, kNan};
  std::vector<double> a, b;
  for (double x : each)
    for (double y : each) {
      a.push_back(x);
      b.push_back(y);
    }
  for (BinaryOp op : kBinaryOps) check_binary<TestType>(op, dense(int64_t(a.size())), a, b);
}

TEST_CASE("cuda: elementwise kernels refuse negative extents and integers before any launch",
          "[cuda][elementwise]") {
  CHECK(unary(Cuda{}, {.count = -1, .dtype = Dtype::f32}) == Status::bad_args);
  CHECK(unary_grad(Cuda{}, {.count = -1, .dtype = Dtype::f32}) == Status::bad_args);
  CHECK(binary(Cuda{}, {.extents = {1, 1, 1, 1, -1, 2}, .dtype = Dtype::f32}) == Status::bad_args);
  CHECK(unary(Cuda{}, {.count = 1, .dtype = Dtype::i32}) != Status::ok);
  CHECK(unary_grad(Cuda{}, {.count = 1, .dtype = Dtype::i32}) != Status::ok);
  CHECK(binary(Cuda{}, {.extents = {1, 1, 1, 1, 1, 1}, .dtype = Dtype::i32}) != Status::ok);
}

}  // namespace moat::tests
