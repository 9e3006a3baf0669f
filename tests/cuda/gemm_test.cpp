#include "kernels/basic/gemm.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/library/context.h"
#include "tests/cuda/device_memory.h"
#include "tests/random_values.h"

namespace moat::tests {

using namespace kernels;

namespace {

struct Shape {
  int m, n, k;
  Transpose a = Transpose::no, b = Transpose::no;
  bool with_bias = true, with_added = false;
  size_t shift = 0;  // operands lie this many values behind an aligned address
};

Status product(const Gemm& args, Precision precision = Precision::float32) {
  Context context;
  context.set_precision(precision);
  const Cuda sized{.context = &context};
  const DeviceArray<char> scratch(gemm_workspace(sized, args));
  const Status status = gemm(Cuda{.context = &context,
                                  .workspace = scratch.data(),
                                  .workspace_bytes = gemm_workspace(sized, args)},
                             args);
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
  return status;
}

// y of a and b in T, on the device.
template <class T, class Y>
std::vector<Y> on_device(const Shape& s, const std::vector<T>& a, const std::vector<T>& b,
                         const std::vector<compute_t<Y>>& bias, Precision precision,
                         const std::vector<Y>& added = {}) {
  const DeviceArray<T> device_a(shifted(a, s.shift)), device_b(shifted(b, s.shift));
  const DeviceArray<compute_t<Y>> device_bias(shifted(bias, s.shift));
  const DeviceArray<Y> device_added(shifted(added, s.shift));
  const DeviceArray<Y> y(size_t(s.m) * size_t(s.n) + s.shift);
  REQUIRE(product({.a = device_a.data() + s.shift,
                   .b = device_b.data() + s.shift,
                   .bias = s.with_bias ? device_bias.data() + s.shift : nullptr,
                   .added = s.with_added ? device_added.data() + s.shift : nullptr,
                   .y = y.data() + s.shift,
                   .m = s.m,
                   .n = s.n,
                   .k = s.k,
                   .transpose_a = s.a,
                   .transpose_b = s.b,
                   .dtype = dtype_of<T>,
                   .y_dtype = dtype_of<Y>},
                  precision) == Status::ok);
  std::vector<Y> out = y.host();
  out.erase(out.begin(), out.begin() + std::ptrdiff_t(s.shift));
  return out;
}

std::vector<double> on_cpu(const Shape& s, const std::vector<double>& a,
                           const std::vector<double>& b, const std::vector<double>& bias,
                           const std::vector<double>& added = {}) {
  std::vector<double> y(size_t(s.m) * size_t(s.n));
  REQUIRE(gemm(Cpu{}, {.a = a.data(),
                       .b = b.data(),
                       .bias = s.with_bias ? bias.data() : nullptr,
                       .added = s.with_added ? added.data() : nullptr,
                       .y = y.data(),
                       .m = s.m,
                       .n = s.n,
                       .k = s.k,
                       .transpose_a = s.a,
                       .transpose_b = s.b,
                       .dtype = Dtype::f64,
                       .y_dtype = Dtype::f64}) == Status::ok);
  return y;
}

std::vector<double> magnitudes(std::vector<double> values) {
  for (double& v : values) v = std::abs(v);
  return values;
}

// A sum of k + 2 terms, in any order; tf32 rounds, or cuts, operands to 11 bits before.
template <class T>
double sum_error(int k, Precision precision) {
  const double order = (k + 3) * (sizeof(T) == 8 ? roundoff<double> : roundoff<float>);
  return order + (sizeof(T) == 4 && precision == Precision::tf32 ? 0x1p-9 : 0);
}

template <class T, class Y>
void check(const Shape& s, Precision precision = Precision::float32) {
  INFO("gemm m " << s.m << ", n " << s.n << ", k " << s.k << ", transposes " << int(s.a) << int(s.b)
                 << ", bias " << s.with_bias << ", added " << s.with_added << ", shift " << s.shift
                 << ", bytes " << sizeof(T) << " to " << sizeof(Y));
  const size_t m = size_t(s.m), n = size_t(s.n), k = size_t(s.k);
  const auto a = rounded<T>(normals(m * k, 1)), b = rounded<T>(normals(k * n, 2));
  const auto bias = rounded<compute_t<Y>>(normals(n, 3));
  const auto added = rounded<Y>(normals(m * n, 4));
  const std::vector<double> y = widened(on_device<T, Y>(s, a, b, bias, precision, added)),
                            right =
                                on_cpu(s, widened(a), widened(b), widened(bias), widened(added)),
                            scale = on_cpu(s, magnitudes(widened(a)), magnitudes(widened(b)),
                                           magnitudes(widened(bias)), magnitudes(widened(added)));
  // In bfloat16 the sum is rounded once, and the bias before it.
  const double rounding = sizeof(Y) == 2 ? roundoff<Bf16> : 0;
  double worst = 0;  // of the tolerance
  for (size_t i = 0; i < y.size(); ++i) {
    const double bias_error = s.with_bias ? rounding * std::abs(double(bias[i % n])) : 0;
    const double tolerance = sum_error<T>(s.k, precision) * scale[i] +
                             rounding * (std::abs(right[i]) + bias_error) + bias_error;
    if (!(std::abs(y[i] - right[i]) <= tolerance))
      FAIL("element " << i << ": " << y[i] << ", expected " << right[i] << " within " << tolerance);
    worst = std::max(worst, std::abs(y[i] - right[i]) / tolerance);
  }
  // Among many values some lie halfway between two of bfloat16: the tolerance is no wider than
  // that.
  if (sizeof(Y) == 2 && y.size() > 1000 && !s.with_bias) REQUIRE(worst > 0.9);
}

template <class T, class Y>
void check_all(Precision precision = Precision::float32) {
  for (const Transpose a : {Transpose::no, Transpose::yes})
    for (const Transpose b : {Transpose::no, Transpose::yes})
      for (const bool with_bias : {true, false})
        for (const bool with_added : {true, false}) {
          for (const auto& [m, n, k] : {std::array{1, 1, 1}, {5, 7, 3}, {64, 32, 48}, {3, 10, 130}})
            check<T, Y>({m, n, k, a, b, with_bias, with_added}, precision);
          check<T, Y>({9, 16, 8, a, b, with_bias, with_added, 1}, precision);
        }
}

// Rows [first, first + rows) of a product are those of the product of these rows alone.
template <class T, class Y>
void check_rows(int n, int k, Precision precision = Precision::float32) {
  INFO("rows of a product, n " << n << ", k " << k << ", bytes " << sizeof(T));
  constexpr int kAll = 70;
  const auto a = rounded<T>(normals(size_t(kAll) * size_t(k), 1)),
             b = rounded<T>(normals(size_t(n) * size_t(k), 2));
  const auto bias = rounded<compute_t<Y>>(normals(size_t(n), 3));
  const auto rows_of = [&](int first, int rows) {
    const std::vector<T> part(a.begin() + std::ptrdiff_t(first) * k,
                              a.begin() + std::ptrdiff_t(first + rows) * k);
    return on_device<T, Y>({rows, n, k, Transpose::no, Transpose::yes}, part, b, bias, precision);
  };
  const std::vector<Y> all = rows_of(0, kAll);
  for (const auto& [first, rows] : {std::pair{0, 1}, {3, 7}, {kAll - 33, 33}}) {
    INFO("first " << first << ", rows " << rows);
    const std::vector<Y> part = rows_of(first, rows);
    REQUIRE(std::memcmp(part.data(), all.data() + std::ptrdiff_t(first) * n,
                        part.size() * sizeof(Y)) == 0);
  }
}

}  // namespace

TEST_CASE("cuda: gemm equals the CPU's product in float64", "[cuda][gemm]") {
  check_all<double, double>();
  check_all<float, float>();
  check_all<float, float>(Precision::tf32);
  check_all<Bf16, Bf16>();
  check_all<Bf16, float>();
}

TEST_CASE("cuda: gemm of small integers is exact", "[cuda][gemm]") {
  const Shape s{.m = 17, .n = 24, .k = 40};
  const auto a = integers<float>(size_t(s.m * s.k), 1, -3, 3),
             b = integers<float>(size_t(s.k * s.n), 2, -3, 3),
             bias = integers<float>(size_t(s.n), 3, -9, 9);
  const std::vector<double> right = on_cpu(s, widened(a), widened(b), widened(bias));
  for (const Precision precision : {Precision::float32, Precision::tf32})
    REQUIRE(widened(on_device<float, float>(s, a, b, bias, precision)) == right);
  REQUIRE(widened(on_device<Bf16, float>(s, rounded<Bf16>(widened(a)), rounded<Bf16>(widened(b)),
                                         bias, Precision::float32)) == right);
}

TEST_CASE("cuda: a row of gemm has the same bits whatever m is", "[cuda][gemm]") {
  for (const auto& [n, k] : {std::pair{64, 32}, {10, 37}}) {
    check_rows<double, double>(n, k);
    check_rows<float, float>(n, k);
    check_rows<float, float>(n, k, Precision::tf32);
    check_rows<Bf16, Bf16>(n, k);
    check_rows<Bf16, float>(n, k);
  }
}

TEST_CASE("cuda: gemm of no terms is the bias or zeros, of no rows nothing", "[cuda][gemm]") {
  const std::vector<float> none, bias{1.5f, -2, 0.25f};
  const std::vector<Bf16> none16;
  const Shape s{.m = 2, .n = 3, .k = 0};
  Shape plain = s;
  plain.with_bias = false;
  Shape sum = s, only_added = plain;
  sum.with_added = only_added.with_added = true;
  const std::vector<double> twice{1.5, -2, 0.25, 1.5, -2, 0.25}, zeros(6);
  REQUIRE(widened(on_device<float, float>(s, none, none, bias, Precision::float32)) == twice);
  REQUIRE(widened(on_device<float, float>(plain, none, none, bias, Precision::float32)) == zeros);
  REQUIRE(widened(on_device<Bf16, Bf16>(s, none16, none16, bias, Precision::float32)) == twice);
  const std::vector<float> added{1, 2, 3, 4, 5, 6};
  const std::vector<double> both{2.5, 0, 3.25, 5.5, 3, 6.25};
  REQUIRE(widened(on_device<float, float>(sum, none, none, bias, Precision::float32, added)) ==
          both);
  REQUIRE(on_device<float, float>(only_added, none, none, bias, Precision::float32, added) ==
          added);
  REQUIRE(on_device<float, float>({0, 3, 5}, none, std::vector<float>(15), bias, {}).empty());
  REQUIRE(on_device<float, float>({2, 0, 5}, std::vector<float>(10), none, none, {}).empty());
}

TEST_CASE("cuda: gemm refuses what is outside its contract before any launch", "[cuda][gemm]") {
  Context context;
  const DeviceArray<float> memory(16);
  const Gemm legal{.a = memory.data(),
                   .b = memory.data(),
                   .y = memory.data(),
                   .m = 2,
                   .n = 2,
                   .k = 2,
                   .dtype = Dtype::f32,
                   .y_dtype = Dtype::f32};
  const auto refused = [&](auto&& change) {
    Gemm g = legal;
    change(g);
    return product(g);
  };
  REQUIRE(refused([](Gemm& g) { g.m = -1; }) == Status::bad_args);
  REQUIRE(refused([](Gemm& g) { g.k = -1; }) == Status::bad_args);
  REQUIRE(refused([](Gemm& g) { g.y_dtype = Dtype::bf16; }) == Status::bad_args);
  REQUIRE(refused([](Gemm& g) { g.dtype = g.y_dtype = Dtype::i32; }) == Status::unsupported);
  REQUIRE(gemm(Cuda{.context = &context}, legal) == Status::small_workspace);
  const DeviceArray<char> scratch(gemm_workspace(Cuda{}, legal));
  REQUIRE(gemm(Cuda{.workspace = scratch.data(), .workspace_bytes = gemm_workspace(Cuda{}, legal)},
               legal) == Status::bad_args);
}

}  // namespace moat::tests
