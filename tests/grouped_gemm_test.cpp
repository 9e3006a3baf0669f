#include "kernels/experts/grouped_gemm.h"

#include <catch2/catch.hpp>
#include <cmath>

#include "tests/activation_reference.h"
#include "tests/random_values.h"

// The kernel below the op: activation and pre-activation in the product, and bfloat16, which the
// engine does not ask for.

namespace moat::tests {

using namespace kernels;

namespace {

template <class T>
std::vector<T> draws(size_t count, unsigned seed) {
  std::vector<T> values;
  for (double x : normals(count, seed)) values.push_back(T(static_cast<compute_t<T>>(x)));
  return values;
}

template <class T>
constexpr Dtype dtype_of = sizeof(T) == 8   ? Dtype::f64
                           : sizeof(T) == 4 ? Dtype::f32
                                            : Dtype::bf16;

// The first multiple of 64 bytes.
char* aligned(std::vector<char>& memory) {
  return memory.data() + (64 - reinterpret_cast<uintptr_t>(memory.data()) % 64) % 64;
}

template <class T>
Status run(GroupedGemm& a) {
  a.dtype = dtype_of<T>;
  const size_t bytes = grouped_gemm_workspace(Cpu{}, a);
  std::vector<char> workspace(bytes + 64);
  return grouped_gemm(Cpu{.workspace = aligned(workspace), .workspace_bytes = bytes}, a);
}

}  // namespace

TEMPLATE_TEST_CASE("grouped_gemm: activation and what it was taken of", "[experts]", double, float,
                   Bf16) {
  using C = compute_t<TestType>;
  const std::vector<int32_t> offsets{0, 0, 50, 51, 51}, tokens = [] {
    std::vector<int32_t> out;
    for (int r = 0; r < 53; ++r) out.push_back(r < 51 ? r * 7 % 20 : 1 << 30);
    return out;
  }();
  const int rows = 53, experts = 4, x_rows = 20;
  const double unit = sizeof(TestType) == 8 ? 0x1p-53 : sizeof(TestType) == 4 ? 0x1p-24 : 0x1p-8;
  for (const auto activation :
       {ExpertActivation::none, ExpertActivation::relu, ExpertActivation::gelu,
        ExpertActivation::gelu_tanh, ExpertActivation::swiglu})
    for (const auto transpose_w : {Transpose::no, Transpose::yes})
      for (const auto& [n, k] : {std::pair{10, 7}, {300, 290}}) {
        INFO("activation " << int(activation) << ", n " << n << ", transposed "
                           << int(transpose_w));
        const auto x = draws<TestType>(size_t(x_rows * k), 1),
                   w = draws<TestType>(size_t(experts * n * k), 2);
        const auto bias = draws<C>(size_t(experts * n), 3);
        const int width = activated_width(activation, n);
        std::vector<TestType> y(size_t(rows * width), TestType(NAN)),
            pre(size_t(rows * n), TestType(NAN));
        GroupedGemm args{.x = x.data(),
                         .row_token = tokens.data(),
                         .w = w.data(),
                         .bias = bias.data(),
                         .offsets = offsets.data(),
                         .y = y.data(),
                         .rows = rows,
                         .x_rows = x_rows,
                         .experts = experts,
                         .n = n,
                         .k = k,
                         .transpose_w = transpose_w,
                         .dtype = Dtype::f32,
                         .activation = activation,
                         .pre = pre.data()};
        REQUIRE(run<TestType>(args) == Status::ok);
        double worst = 0;  // in units of roundoff of Σ|a||b|, or of the value for what is stored
        for (int r = 0; r < 51; ++r) {
          const int e = r < 50 ? 1 : 2;
          std::vector<double> sum, size;
          for (int j = 0; j < n; ++j) {
            sum.push_back(bias[size_t(e * n + j)]);
            size.push_back(std::abs(sum.back()));
            for (int p = 0; p < k; ++p) {
              const int at = transpose_w == Transpose::yes ? j * k + p : p * n + j;
              const double term = double(C(x[size_t(tokens[size_t(r)] * k + p)])) *
                                  double(C(w[size_t(e * n * k + at)]));
              sum.back() += term;
              size.back() += std::abs(term);
            }
            worst = std::max(
                worst, std::abs(C(pre[size_t(r * n + j)]) - sum.back()) / (unit * size.back()));
          }
          for (int j = 0; j < width; ++j) {
            const double gate = activated(activation, sum[size_t(j)]);
            const bool gated = activation == ExpertActivation::swiglu;
            const double value = gated ? sum[size_t(width + j)] : 1;
            const double scale =
                gated ? size[size_t(j)] * size[size_t(width + j)] : size[size_t(j)];
            worst = std::max(worst, std::abs(C(y[size_t(r * width + j)]) - gate * value) /
                                        (unit * (scale + 1e-3)));
          }
        }
        CHECK(worst < 16);
        for (int i = 51 * width; i < rows * width; ++i) REQUIRE(C(y[size_t(i)]) == 0);
        for (int i = 51 * n; i < rows * n; ++i) REQUIRE(C(pre[size_t(i)]) == 0);
      }
}

TEMPLATE_TEST_CASE("grouped_gemm: weight gradients of empty extents", "[experts]", double, float,
                   Bf16) {
  using C = compute_t<TestType>;
  const std::vector<int32_t> offsets{0, 1, 3};
  const int rows = 3, experts = 2;
  for (const auto& [n, k] : {std::pair{0, 4}, {5, 0}, {0, 0}}) {
    INFO("n " << n << ", k " << k);
    const auto x = draws<TestType>(size_t(rows * k), 1), d_y = draws<TestType>(size_t(rows * n), 2);
    std::vector<C> d_bias(size_t(experts * n), C(NAN)), d_w;  // d_w has no elements
    std::vector<char> workspace(1 << 16);
    const GroupedGemmWeightGrad args{.x = x.data(),
                                     .row_token = nullptr,
                                     .d_y = d_y.data(),
                                     .offsets = offsets.data(),
                                     .d_w = d_w.data(),
                                     .d_bias = d_bias.data(),
                                     .rows = rows,
                                     .x_rows = rows,
                                     .experts = experts,
                                     .n = n,
                                     .k = k,
                                     .dtype = dtype_of<TestType>};
    REQUIRE(grouped_gemm_weight_grad(
                Cpu{.workspace = aligned(workspace), .workspace_bytes = 1 << 15}, args) ==
            Status::ok);
    for (int j = 0; j < n; ++j) {
      CHECK(d_bias[size_t(j)] == C(d_y[size_t(j)]));
      CHECK(d_bias[size_t(n + j)] == C(d_y[size_t(n + j)]) + C(d_y[size_t(2 * n + j)]));
    }
  }
}

TEST_CASE("grouped_gemm: swiglu needs an even number of columns", "[experts]") {
  const int32_t offsets[2] = {0, 0};
  GroupedGemm args{};
  args.offsets = offsets;
  args.experts = 1;
  args.n = 3;
  args.k = 2;
  args.activation = ExpertActivation::swiglu;
  CHECK(run<float>(args) == Status::bad_args);
}

}  // namespace moat::tests
