#include "kernels/experts/grouped_gemm/sm80.h"

#include <cmath>

#include "tests/cuda/grouped_shape.h"

// The weight gradient, through its contract and in the pieces that only large groups get by
// themselves. The forward product in either tile is in tests/cuda/grouped_gemm_test.cpp.

namespace moat::tests {

using namespace kernels;
using sm80::Extent;

namespace {

template <class T>
struct WeightGrads {
  std::vector<compute_t<T>> w, bias;
};
// What the contract chooses, or a tile and a number of pieces.
struct Choice {
  Extent extent = Extent::small;
  int splits = 0;  // 0: the contract chooses
};

template <class T>
WeightGrads<T> weight_grads(const GroupedShape& s, const std::vector<T>& x_values,
                            const std::vector<T>& d_y_values, Choice choice) {
  const DeviceArray<T> x(x_values), d_y(d_y_values);
  const DeviceArray<int32_t> offsets(s.offsets()), tokens(s.tokens());
  const DeviceArray<compute_t<T>> d_w(s.w_count()), d_bias(s.counts.size() * size_t(s.n));
  const GroupedGemmWeightGrad args{.x = x.data(),
                                   .row_token = s.gathered ? tokens.data() : nullptr,
                                   .d_y = d_y.data(),
                                   .offsets = offsets.data(),
                                   .d_w = d_w.data(),
                                   .d_bias = s.with_bias ? d_bias.data() : nullptr,
                                   .rows = s.rows(),
                                   .x_rows = s.x_rows(),
                                   .experts = s.experts(),
                                   .n = s.n,
                                   .k = s.k,
                                   .dtype = dtype_of<T>,
                                   .precision = s.precision};
  if (choice.splits == 0) {
    REQUIRE(run<GroupedGemmWeightGrad>(grouped_gemm_weight_grad, args,
                                       grouped_gemm_weight_grad_workspace(Cuda{}, args)) ==
            Status::ok);
  } else {
    REQUIRE(sm80::can_run(args, choice.extent));
    const size_t bytes = sm80::workspace(args, choice.splits);
    const DeviceArray<char> workspace(bytes);
    const Cuda on{.workspace = workspace.data(), .workspace_bytes = bytes};
    REQUIRE(sm80::run(on, args, choice.extent, choice.splits) == Status::ok);
    if (s.with_bias) REQUIRE(sm80::run_bias(on, args) == Status::ok);
    REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
  }
  return {d_w.host(), s.with_bias ? d_bias.host() : std::vector<compute_t<T>>()};
}

// |d_w - float64| <= error · Σ|d_y||x|, and the same for d_bias. Zeros where there are no rows.
template <class T>
void compare(const GroupedShape& s, const std::vector<T>& x, const std::vector<T>& d_y,
             const WeightGrads<T>& got, double error) {
  const auto n = size_t(s.n), k = size_t(s.k);
  const std::vector<int32_t> offsets = s.offsets(), tokens = s.tokens();
  const std::vector<double> wide_x = widened(x), wide_d_y = widened(d_y);
  const auto near = [&](double value, double expected, double magnitude, size_t e, size_t i) {
    if (!(std::abs(value - expected) <= error * magnitude))
      FAIL("expert " << e << ", element " << i << ": " << value << ", expected " << expected);
  };
  for (size_t e = 0; e < s.counts.size(); ++e) {
    std::vector<double> w(n * k), w_size(n * k), bias(n), bias_size(n);
    for (int r = offsets[e]; r < offsets[e + 1]; ++r) {
      const size_t token = s.gathered ? size_t(tokens[size_t(r)]) : size_t(r);
      for (size_t i = 0; i < n; ++i) {
        const double d = wide_d_y[size_t(r) * n + i];
        bias[i] += d, bias_size[i] += std::abs(d);
        for (size_t j = 0; j < k; ++j) {
          w[i * k + j] += d * wide_x[token * k + j];
          w_size[i * k + j] += std::abs(d * wide_x[token * k + j]);
        }
      }
    }
    for (size_t i = 0; i < n * k; ++i) near(got.w[e * n * k + i], w[i], w_size[i], e, i);
    for (size_t i = 0; s.with_bias && i < n; ++i)
      near(got.bias[e * n + i], bias[i], bias_size[i], e, i);
  }
}

template <class T>
struct Gradients {
  std::vector<T> x, d_y;
  explicit Gradients(const GroupedShape& s)
      : x(rounded<T>(normals(size_t(s.x_rows()) * size_t(s.k), 1))),
        d_y(rounded<T>(normals(size_t(s.rows()) * size_t(s.n), 2))) {
    poison(s);
  }
  Gradients(const GroupedShape& s, std::vector<double> (*values)(size_t, unsigned))
      : x(rounded<T>(values(size_t(s.x_rows()) * size_t(s.k), 1))),
        d_y(rounded<T>(values(size_t(s.rows()) * size_t(s.n), 2))) {
    poison(s);
  }
  // Rows that no expert has must not reach a sum.
  void poison(const GroupedShape& s) {
    std::fill(d_y.begin() + std::ptrdiff_t(size_t(s.used()) * size_t(s.n)), d_y.end(), T(NAN));
  }
};

// Per term of Σ|a||b|: at most 300 float32 additions one after another and 3 · 2^-22 for what the
// parts of a float32 product leave out; tf32 rounds operands to 11 bits.
template <class T>
double sum_error(const GroupedShape& s) {
  if (sizeof(T) == 8) return 300 * roundoff<double>;
  return s.precision == Precision::tf32 && sizeof(T) == 4 ? 0x1p-9 : 32 * roundoff<float>;
}

template <class T>
void check(const GroupedShape& s, Choice choice = {}) {
  INFO("rows " << s.rows() << ", experts " << s.experts() << ", n " << s.n << ", k " << s.k
               << ", gathered " << s.gathered << ", bytes " << sizeof(T) << ", splits "
               << choice.splits);
  const Gradients<T> in(s);
  compare(s, in.x, in.d_y, weight_grads(s, in.x, in.d_y, choice), sum_error<T>(s));
  // For bfloat16 the contract has another choice.
  if (sizeof(T) == 2 && choice.splits == 0) check<T>(s, {.splits = 1});
}

template <class T>
void check_exact(const GroupedShape& s, Choice choice) {
  INFO("splits " << choice.splits << ", extent " << int(choice.extent));
  const Gradients<T> in(s, small_integers);
  compare(s, in.x, in.d_y, weight_grads(s, in.x, in.d_y, choice), 0);
}

}  // namespace

TEMPLATE_TEST_CASE("cuda: grouped_gemm_weight_grad equals its float64 reference",
                   "[cuda][grouped_gemm]", double, float, Bf16) {
  for (const bool gathered : {false, true}) {
    const auto shape = [&](std::vector<int32_t> counts, int left, int n, int k) {
      return GroupedShape{
          .counts = std::move(counts), .left = left, .n = n, .k = k, .gathered = gathered};
    };
    check<TestType>(shape(kRagged, 4, 24, 40));      // whole chunks of 16 bytes
    check<TestType>(shape({3, 70}, 0, 67, 37));      // nothing is a multiple
    check<TestType>(shape({33}, 0, 1, 1));           // one expert
    check<TestType>(shape({0, 0, 9, 0}, 0, 72, 8));  // one-hot
    check<TestType>(shape({0, 0}, 3, 5, 4));         // no rows of any expert
    check<TestType>(shape({0}, 0, 5, 4));            // no rows at all
    check<TestType>(shape({}, 3, 5, 4));             // no experts
    check<TestType>(shape({2, 1}, 0, 9, 0));         // only the biases
  }
}

TEMPLATE_TEST_CASE("cuda: grouped_gemm_weight_grad in pieces, added in order",
                   "[cuda][grouped_gemm]", float, Bf16) {
  for (const int splits : {2, 3, 16}) {
    const GroupedShape s{.counts = {0, 100, 1, 0, 45}, .left = 3, .n = 70, .k = 36};
    const Choice choice{.splits = splits};
    check<TestType>(s, choice);
    check_exact<TestType>(s, choice);
    const Gradients<TestType> in(s);
    REQUIRE(same_bits(weight_grads(s, in.x, in.d_y, choice).w,
                      weight_grads(s, in.x, in.d_y, choice).w));
  }
}

TEST_CASE("cuda: grouped_gemm_weight_grad in tiles of 128", "[cuda][grouped_gemm]") {
  for (const bool gathered : {false, true})
    for (const int splits : {1, 2}) {
      const Choice choice{.extent = Extent::large, .splits = splits};
      const GroupedShape s{
          .counts = {40, 0, 65}, .left = 2, .n = 136, .k = 72, .gathered = gathered};
      check<Bf16>(s, choice);
      check_exact<Bf16>(s, choice);
      GroupedShape tf32 = s;
      tf32.precision = Precision::tf32;
      check<float>(tf32, choice);
      check_exact<float>(tf32, choice);
    }
}

TEMPLATE_TEST_CASE("cuda: grouped_gemm_weight_grad of an expert does not depend on the others",
                   "[cuda][grouped_gemm]", float, Bf16) {
  const GroupedShape s{.counts = {7, 30, 5}, .n = 24, .k = 16};
  Gradients<TestType> in(s);
  const auto before = weight_grads(s, in.x, in.d_y, {}).w;
  std::fill(in.x.begin(), in.x.begin() + 7 * 16, TestType(NAN));
  std::fill(in.d_y.begin() + 37 * 24, in.d_y.end(), TestType(NAN));
  const auto after = weight_grads(s, in.x, in.d_y, {}).w;
  REQUIRE(
      std::equal(before.begin() + 24 * 16, before.begin() + 2 * 24 * 16, after.begin() + 24 * 16));
  REQUIRE(std::isnan(after[0]));
  REQUIRE(std::isnan(after.back()));
}

TEST_CASE("cuda: grouped_gemm_weight_grad splits the rows of large groups only",
          "[cuda][grouped_gemm]") {
  GroupedGemmWeightGrad a{};
  a.rows = a.x_rows = 65536;
  a.experts = 1;
  a.n = a.k = 64;
  a.dtype = Dtype::bf16;
  CHECK(sm80::splits(a, Extent::small) > 1);
  CHECK(sm80::workspace(a, 3) == 2 * 64 * 64 * sizeof(float));
  a.rows = 511;
  CHECK(sm80::splits(a, Extent::small) == 1);
  CHECK(sm80::workspace(a, 1) == 0);
}

TEST_CASE("cuda: grouped_gemm_weight_grad refuses what the host can see before any launch",
          "[cuda][grouped_gemm]") {
  const int32_t offsets[2] = {0, 65536};
  GroupedGemmWeightGrad a{.x = nullptr,
                          .row_token = nullptr,
                          .d_y = nullptr,
                          .offsets = offsets,
                          .d_w = nullptr,
                          .d_bias = nullptr,
                          .rows = 65536,
                          .x_rows = 65536,
                          .experts = 1,
                          .n = 8,
                          .k = 8,
                          .dtype = Dtype::bf16};
  const size_t bytes = grouped_gemm_weight_grad_workspace(Cuda{}, a);
  REQUIRE(bytes > 0);
  CHECK(grouped_gemm_weight_grad(Cuda{.workspace_bytes = bytes - 1}, a) == Status::small_workspace);
  a.k = -1;
  CHECK(grouped_gemm_weight_grad(Cuda{}, a) == Status::bad_args);
  a.k = 8;
  a.offsets = nullptr;
  CHECK(grouped_gemm_weight_grad(Cuda{}, a) == Status::bad_args);
}

}  // namespace moat::tests
