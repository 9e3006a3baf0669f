#include "kernels/experts/grouped_gemm.h"

#include <cmath>

#include "kernels/experts/grouped_gemm/sm80.h"
#include "tests/activation_reference.h"
#include "tests/cuda/grouped_shape.h"

namespace moat::tests {

using namespace kernels;
using sm80::Extent;

namespace {

using Shape = GroupedShape;

// Who multiplies: what the contract chooses for this chip, or the products by mma.sync in tiles of
// 64 or 128.
enum class Way { contract, small, large };

template <class T>
struct Product {
  std::vector<T> y, pre;
  Status status;
};

template <class T>
Product<T> product(const Shape& s, const Operands<T>& in, Way way) {
  const DeviceArray<T> x(in.x), w(in.w);
  const DeviceArray<compute_t<T>> bias(in.bias);
  const DeviceArray<int32_t> offsets(s.offsets()), tokens(s.tokens());
  const DeviceArray<T> y(size_t(s.rows()) * size_t(s.width())),
      pre(s.with_pre ? size_t(s.rows()) * size_t(s.n) : 0);
  const GroupedGemm args{.x = x.data(),
                         .row_token = s.gathered ? tokens.data() : nullptr,
                         .w = w.data(),
                         .bias = s.with_bias ? bias.data() : nullptr,
                         .offsets = offsets.data(),
                         .y = y.data(),
                         .rows = s.rows(),
                         .x_rows = s.x_rows(),
                         .experts = s.experts(),
                         .n = s.n,
                         .k = s.k,
                         .transpose_w = s.transpose_w,
                         .dtype = dtype_of<T>,
                         .activation = s.activation,
                         .pre = s.with_pre ? pre.data() : nullptr,
                         .precision = s.precision};
  const Extent extent = way == Way::large ? Extent::large : Extent::small;
  REQUIRE(sm80::can_run(args, extent));
  const Status status =
      way == Way::contract ? grouped_gemm(Cuda{}, args) : sm80::run(Cuda{}, args, extent);
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
  return {y.host(), pre.host(), status};
}

// Sums of a row of the product in float64, and the sums of magnitudes that bound their errors.
struct Sums {
  std::vector<double> value, magnitude;
};
template <class T>
Sums sums(const Shape& s, const Operands<T>& in, int expert, int row) {
  const int token = s.gathered ? s.tokens()[size_t(row)] : row;
  Sums out{std::vector<double>(size_t(s.n)), std::vector<double>(size_t(s.n))};
  for (int j = 0; j < s.n; ++j) {
    const auto add = [&, at = size_t(j)](double term) {
      out.value[at] += term;
      out.magnitude[at] += std::abs(term);
    };
    if (s.with_bias) add(double(in.bias[size_t(expert) * size_t(s.n) + size_t(j)]));
    const size_t matrix = size_t(expert) * size_t(s.n) * size_t(s.k);
    for (int p = 0; p < s.k; ++p) {
      const size_t at = s.transpose_w == Transpose::yes ? size_t(j) * size_t(s.k) + size_t(p)
                                                        : size_t(p) * size_t(s.n) + size_t(j);
      add(double(compute_t<T>(in.x[size_t(token) * size_t(s.k) + size_t(p)])) *
          double(compute_t<T>(in.w[matrix + at])));
    }
  }
  return out;
}

void require_near(double y, double expected, double tolerance, int row, size_t column) {
  if (std::abs(y - expected) <= tolerance) return;
  FAIL("row " << row << ", column " << column << ": " << y << ", expected " << expected
              << " within " << tolerance);
}

// How far a sum may be from float64, in units of Σ|a||b|. float32: adding k <= 300 terms one after
// another, plus 3 · 2^-22 of each product for what its two parts leave out; tf32: operands rounded
// to 11 bits.
template <class T>
double sum_error(const Shape& s) {
  if constexpr (sizeof(T) == 8) return 300 * roundoff<double>;
  return s.precision == Precision::tf32 && sizeof(T) == 4 ? 0x1p-9 : 32 * roundoff<float>;
}

template <class T>
void check(const Shape& s, const Operands<T>& in, const Product<T>& got) {
  INFO("rows " << s.rows() << ", experts " << s.experts() << ", n " << s.n << ", k " << s.k
               << ", activation " << int(s.activation) << ", gathered " << s.gathered
               << ", transposed " << int(s.transpose_w) << ", bytes " << sizeof(T));
  REQUIRE(got.status == Status::ok);
  const std::vector<double> y = widened(got.y), pre = widened(got.pre);
  const auto width = size_t(s.width()), n = size_t(s.n);
  const double rounding = sizeof(T) == 2 ? roundoff<Bf16> : 4 * roundoff<T>;
  const std::vector<int32_t> offsets = s.offsets();
  for (int e = 0; e < s.experts(); ++e)
    for (int r = offsets[size_t(e)]; r < offsets[size_t(e) + 1]; ++r) {
      const Sums expected = sums(s, in, e, r);
      const auto error = [&](size_t j) { return sum_error<T>(s) * expected.magnitude[j]; };
      for (size_t j = 0; j < width; ++j) {
        const double a = expected.value[j], y_a = activated(s.activation, a);
        if (s.activation == ExpertActivation::swiglu) {
          const double b = expected.value[width + j];
          require_near(y[size_t(r) * width + j], y_a * b,
                       1.1 * std::abs(b) * error(j) + std::abs(y_a) * error(width + j) +
                           rounding * std::abs(y_a * b) + 1.1 * error(j) * error(width + j),
                       r, j);
        } else {
          const double tolerance = 1.2 * error(j) + rounding * (std::abs(y_a) + 1e-3);
          require_near(y[size_t(r) * width + j], y_a, tolerance, r, j);
        }
      }
      for (size_t j = 0; s.with_pre && j < n; ++j)
        require_near(pre[size_t(r) * n + j], expected.value[j],
                     error(j) + rounding * std::abs(expected.value[j]), r, j);
    }
  const auto is_zero = [](double v) { return v == 0; };
  REQUIRE(std::all_of(y.begin() + std::ptrdiff_t(size_t(s.used()) * width), y.end(), is_zero));
  if (s.with_pre)
    REQUIRE(std::all_of(pre.begin() + std::ptrdiff_t(size_t(s.used()) * n), pre.end(), is_zero));
}

template <class T>
void check_product(const Shape& s, Way way) {
  const Operands<T> in =
      operands<T>(s, [](size_t count, unsigned seed) { return normals(count, seed); });
  check(s, in, product(s, in, way));
}
// By the contract, and where that has another choice for bfloat16, by mma.sync.
template <class T>
void check_product(const Shape& s) {
  check_product<T>(s, Way::contract);
  if (sizeof(T) == 2) check_product<T>(s, Way::small);
}

// Small integers: every sum is exact in every format, whatever the order.
template <class T>
void check_exact(const Shape& s, Way way = Way::contract) {
  const Operands<T> in = operands<T>(s, small_integers);
  const Product<T> got = product(s, in, way);
  REQUIRE(got.status == Status::ok);
  const std::vector<int32_t> offsets = s.offsets();
  for (int e = 0; e < s.experts(); ++e)
    for (int r = offsets[size_t(e)]; r < offsets[size_t(e) + 1]; ++r) {
      const Sums expected = sums(s, in, e, r);
      for (size_t j = 0; j < size_t(s.n); ++j) {
        require_near(double(compute_t<T>(got.y[size_t(r) * size_t(s.n) + j])), expected.value[j], 0,
                     r, j);
      }
    }
}

}  // namespace

TEMPLATE_TEST_CASE("cuda: grouped_gemm equals its float64 reference", "[cuda][grouped_gemm]",
                   double, float, Bf16) {
  for (const Transpose transpose_w : {Transpose::yes, Transpose::no})
    for (const bool gathered : {false, true}) {
      const auto shape = [&](std::vector<int32_t> counts, int left, int n, int k) {
        return Shape{.counts = std::move(counts),
                     .left = left,
                     .n = n,
                     .k = k,
                     .transpose_w = transpose_w,
                     .gathered = gathered};
      };
      check_product<TestType>(shape(kRagged, 4, 24, 40));      // whole chunks of 16 bytes
      check_product<TestType>(shape({3, 70}, 0, 67, 37));      // nothing is a multiple
      check_product<TestType>(shape({2}, 1, 1, 1));            // one expert
      check_product<TestType>(shape({0, 0, 9, 0}, 0, 72, 8));  // one-hot
      check_product<TestType>(shape({0, 0}, 3, 5, 4));         // no rows of any expert
      check_product<TestType>(shape({0}, 0, 5, 4));            // no rows at all
      check_product<TestType>(shape({}, 3, 5, 4));             // no experts
      check_product<TestType>(shape({2, 1}, 0, 9, 0));         // sums of nothing
      check_product<TestType>(shape(std::vector<int32_t>(70, 1), 2, 8, 16));  // many experts
    }
}

TEMPLATE_TEST_CASE(
    "cuda: grouped_gemm with every activation, bias and what the backward pass needs",
    "[cuda][grouped_gemm]", double, float, Bf16) {
  for (const ExpertActivation activation :
       {ExpertActivation::none, ExpertActivation::relu, ExpertActivation::gelu,
        ExpertActivation::gelu_tanh, ExpertActivation::swiglu})
    for (const Transpose transpose_w : {Transpose::yes, Transpose::no})
      for (const int n : {48, 30}) {  // 30: halves of 15
        Shape s{.counts = {3, 0, 18},
                .left = 2,
                .n = n,
                .k = 24,
                .activation = activation,
                .transpose_w = transpose_w,
                .gathered = true,
                .with_bias = n == 48,
                .with_pre = true};
        check_product<TestType>(s);
        s.with_pre = false;
        check_product<TestType>(s);
      }
}

TEMPLATE_TEST_CASE("cuda: grouped_gemm in tiles of 128", "[cuda][grouped_gemm]", float, Bf16) {
  for (const Transpose transpose_w : {Transpose::yes, Transpose::no})
    for (const ExpertActivation activation : {ExpertActivation::none, ExpertActivation::swiglu})
      check_product<TestType>({.counts = {130, 0, 7},
                               .left = 1,
                               .n = 144,
                               .k = 72,
                               .activation = activation,
                               .transpose_w = transpose_w,
                               .gathered = activation == ExpertActivation::none,
                               .with_pre = true},
                              Way::large);
}

TEMPLATE_TEST_CASE("cuda: grouped_gemm is exact on small integers", "[cuda][grouped_gemm]", double,
                   float, Bf16) {
  for (const Transpose transpose_w : {Transpose::yes, Transpose::no}) {
    const Shape s{.counts = kRagged, .n = 72, .k = 40, .transpose_w = transpose_w};
    check_exact<TestType>(s);
    if (sizeof(TestType) == 2) check_exact<TestType>(s, Way::small);
    if constexpr (sizeof(TestType) < 8) check_exact<TestType>(s, Way::large);
  }
}

TEST_CASE("cuda: grouped_gemm in plain tf32", "[cuda][grouped_gemm]") {
  for (const Way way : {Way::small, Way::large}) {
    const Shape s{.counts = {3, 70}, .n = 40, .k = 52, .precision = Precision::tf32};
    check_product<float>(s, way);
    check_exact<float>(s, way);
  }
}

TEMPLATE_TEST_CASE("cuda: grouped_gemm gives a row the same bits whatever the others are",
                   "[cuda][grouped_gemm]", float, Bf16) {
  const auto random = [](size_t count, unsigned seed) { return normals(count, seed); };
  const Shape s{.counts = {2, 80, 5}, .n = 72, .k = 88, .activation = ExpertActivation::gelu};
  const Operands<TestType> in = operands<TestType>(s, random);
  const auto y = product(s, in, Way::small).y;
  REQUIRE(same_bits(y, product(s, in, Way::small).y));  // a second run
  REQUIRE(same_bits(y, product(s, in, Way::large).y));  // other tiles

  // Expert 1's row 47 alone.
  Shape alone = s;
  alone.counts = {0, 1, 0};
  Operands<TestType> one = in;
  const auto row = [](const std::vector<TestType>& values, int r, int width) {
    const auto first = values.begin() + std::ptrdiff_t(r) * width;
    return std::vector<TestType>(first, first + width);
  };
  one.x = row(in.x, 49, s.k);
  REQUIRE(same_bits(row(y, 49, s.n), product(alone, one, Way::small).y));
}

TEMPLATE_TEST_CASE("cuda: grouped_gemm keeps NaN and infinities in their rows",
                   "[cuda][grouped_gemm]", double, float, Bf16) {
  const Shape s{.counts = {3, 4, 2}, .n = 20, .k = 24};
  Operands<TestType> in =
      operands<TestType>(s, [](size_t count, unsigned seed) { return normals(count, seed); });
  const TestType nan = TestType(NAN), infinity = TestType(INFINITY);
  for (int r = 3; r < 7; ++r) in.x[size_t(r) * 24 + 5] = r % 2 ? nan : infinity;
  in.w[2 * 20 * 24 + 7 * 24] = nan;  // of the last expert, column 7
  const auto y = widened(product(s, in, Way::small).y);
  for (size_t r = 0; r < 9; ++r)
    for (size_t j = 0; j < 20; ++j)
      REQUIRE(std::isfinite(y[r * 20 + j]) == (r < 3 || (r > 6 && j != 7)));
}

TEST_CASE("cuda: grouped_gemm takes rows that are not aligned", "[cuda][grouped_gemm]") {
  const Shape s{.counts = {3, 9}, .n = 24, .k = 40};
  const Operands<Bf16> in =
      operands<Bf16>(s, [](size_t count, unsigned seed) { return normals(count, seed); });
  std::vector<Bf16> shifted(1);
  shifted.insert(shifted.end(), in.x.begin(), in.x.end());
  const DeviceArray<Bf16> x(shifted), w(in.w), y(12 * 24 + 1);
  const DeviceArray<float> bias(in.bias);
  const DeviceArray<int32_t> offsets(s.offsets());
  REQUIRE(run<GroupedGemm>(kernels::grouped_gemm, {.x = x.data() + 1,
                                                   .row_token = nullptr,
                                                   .w = w.data(),
                                                   .bias = bias.data(),
                                                   .offsets = offsets.data(),
                                                   .y = y.data() + 1,
                                                   .rows = 12,
                                                   .x_rows = 12,
                                                   .experts = 2,
                                                   .n = 24,
                                                   .k = 40,
                                                   .transpose_w = Transpose::yes,
                                                   .dtype = Dtype::bf16}) == Status::ok);
  std::vector<Bf16> got = y.host();
  got.erase(got.begin());
  check(s, in, {got, {}, Status::ok});
}

TEST_CASE("cuda: grouped_gemm takes a token that does not exist for a row of zeros",
          "[cuda][grouped_gemm]") {
  const std::vector<float> ones(8, 1);
  const DeviceArray<float> x(ones), w(ones), y(8);
  const DeviceArray<int32_t> offsets(std::vector<int32_t>{0, 4}),
      tokens(std::vector<int32_t>{1, -1, 4, 0});
  REQUIRE(run<GroupedGemm>(kernels::grouped_gemm, {.x = x.data(),
                                                   .row_token = tokens.data(),
                                                   .w = w.data(),
                                                   .bias = nullptr,
                                                   .offsets = offsets.data(),
                                                   .y = y.data(),
                                                   .rows = 4,
                                                   .x_rows = 2,
                                                   .experts = 1,
                                                   .n = 2,
                                                   .k = 4,
                                                   .transpose_w = Transpose::yes,
                                                   .dtype = Dtype::f32}) == Status::ok);
  REQUIRE(y.host() == std::vector<float>{4, 4, 0, 0, 0, 0, 4, 4});
}

TEST_CASE("cuda: grouped_gemm refuses what the host can see before any launch",
          "[cuda][grouped_gemm]") {
  const int32_t offsets[2] = {0, 1};
  const GroupedGemm good{.x = nullptr,
                         .row_token = nullptr,
                         .w = nullptr,
                         .bias = nullptr,
                         .offsets = offsets,
                         .y = nullptr,
                         .rows = 1,
                         .x_rows = 1,
                         .experts = 1,
                         .n = 2,
                         .k = 2,
                         .transpose_w = Transpose::yes,
                         .dtype = Dtype::f32};
  const auto refused = [&](auto&& change) {
    GroupedGemm args = good;
    change(args);
    return kernels::grouped_gemm(Cuda{}, args) == Status::bad_args;
  };
  CHECK(refused([](auto& a) { a.rows = -1; }));
  CHECK(refused([](auto& a) { a.x_rows = -1; }));
  CHECK(refused([](auto& a) { a.experts = -1; }));
  CHECK(refused([](auto& a) { a.n = -1; }));
  CHECK(refused([](auto& a) { a.k = -1; }));
  CHECK(refused([](auto& a) { a.offsets = nullptr; }));
  CHECK(refused([](auto& a) { a.dtype = Dtype::i32; }));
  CHECK(refused([](auto& a) {
    a.n = 3;
    a.activation = ExpertActivation::swiglu;
  }));
}

}  // namespace moat::tests
