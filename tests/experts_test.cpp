#include "engine/ops/experts.h"

#include <catch2/catch.hpp>
#include <cstring>

#include "engine/ops/reduce.h"
#include "engine/tape.h"
#include "kernels/experts/grouped_gemm.h"
#include "tests/op_case.h"

namespace moat::tests {

using namespace engine;
using Catch::Matchers::Contains;

namespace {

Tensor all_to(int32_t expert, int64_t tokens) {
  return Tensor::from(std::vector<int32_t>(static_cast<size_t>(tokens), expert), {tokens, 1});
}

}  // namespace

TEST_CASE("grouped_gemm: a row has the same bits whatever the others are", "[experts]") {
  const Tensor x = randn({200, 40}, 1).to(Dtype::f32), w = randn({3, 70, 40}, 2).to(Dtype::f32);
  const Tensor mixed = rand_ints({200, 1}, 0, 3, 4);
  const Routing routing = route_tokens(mixed, 3);
  const Tensor y = grouped_gemm(x, w, {}, routing, Rows::gathered);
  for (int32_t e = 0; e < 3; ++e) {
    const Tensor alone = grouped_gemm(x, w, {}, route_tokens(all_to(e, 200), 3), Rows::gathered);
    for (int64_t t = 0; t < 200; ++t) {
      if (mixed.data_as<int32_t>()[t] != e) continue;
      const float* row = y.data_as<float>() + routing.slot_of.data_as<int32_t>()[t] * 70;
      REQUIRE(std::memcmp(row, alone.data_as<float>() + t * 70, 70 * sizeof(float)) == 0);
    }
  }
}

TEST_CASE("grouped_gemm: an expert without rows has zero gradients", "[experts]") {
  const Routing routing = route_tokens(all_to(1, 5), 3);
  const Tensor x = randn({5, 4}, 1).to(Dtype::f32);
  Tape tape;
  const Tensor w = tape.watch(randn({3, 6, 4}, 2).to(Dtype::f32)),
               bias = tape.watch(randn({3, 6}, 3).to(Dtype::f32));
  const Gradients gradients =
      tape.gradients(sum(grouped_gemm(x, w, bias, routing, Rows::gathered)));
  const auto d_w = gradients.of(w).to_vector<float>(),
             d_bias = gradients.of(bias).to_vector<float>();
  for (size_t i = 0; i < d_w.size(); ++i)
    if (i / 24 != 1) CHECK(d_w[i] == 0);
  for (size_t i = 0; i < d_bias.size(); ++i) CHECK(d_bias[i] == (i / 6 == 1 ? 5 : 0));
}

TEST_CASE("grouped_gemm: no gradient is computed that nobody asked for", "[experts]") {
  const Routing routing = route_tokens(all_to(0, 5), 2);
  const Tensor x = randn({5, 4}, 1), w = randn({2, 6, 4}, 2), bias = randn({2, 6}, 3);
  Tape tape;
  const Tensor watched = tape.watch(x);
  const Gradients gradients =
      tape.gradients(sum(grouped_gemm(watched, w, bias, routing, Rows::gathered)));
  CHECK(gradients.of(watched).defined());
  CHECK_FALSE(gradients.of(w).defined());
  CHECK_FALSE(gradients.of(bias).defined());
}

TEST_CASE("grouped_gemm, expert_activation: what does not fit is one line", "[experts]") {
  const Routing routing = route_tokens(all_to(0, 5), 2);
  const Tensor x = randn({5, 4}, 1), w = randn({2, 6, 4}, 2), bias = randn({2, 6}, 3);
  const auto run = [&](const Tensor& a, const Tensor& b, const Tensor& c) {
    return grouped_gemm(a, b, c, routing, Rows::sorted);
  };
  CHECK_THROWS_WITH(grouped_gemm(x, w, bias, {}, Rows::sorted),
                    Contains("route_tokens() makes one"));
  CHECK_THROWS_WITH(run(randn({4, 4}, 1), w, bias), Contains("x must be floating [5, width]"));
  CHECK_THROWS_WITH(run(x, randn({3, 6, 4}, 2), bias), Contains("w must be float64 [2, n, 4]"));
  CHECK_THROWS_WITH(run(x, w.to(Dtype::f32), bias), Contains("w must be float64 [2, n, 4]"));
  CHECK_THROWS_WITH(run(x, w, randn({2, 5}, 3)), Contains("bias must be float64 [2, 6]"));
  CHECK_THROWS_WITH(run(x.to(Dtype::bf16), w, bias), Contains("w must be float32 [2, n, 4]"));
  CHECK_THROWS_WITH(expert_activation(randn({2, 5}, 1), ExpertActivation::swiglu),
                    Contains("must be even, got 5"));
}

TEST_CASE("grouped_gemm: the kernel refuses offsets and tokens outside the contract", "[experts]") {
  using kernels::Cpu;
  using kernels::Status;
  const std::vector<double> x(8, 1), w(8, 1);
  std::vector<double> y(8, 7);
  const auto status = [&](std::vector<int32_t> offsets, std::vector<int32_t> tokens) {
    kernels::GroupedGemm args{.x = x.data(),
                              .row_token = tokens.empty() ? nullptr : tokens.data(),
                              .w = w.data(),
                              .bias = nullptr,
                              .offsets = offsets.data(),
                              .y = y.data(),
                              .rows = 4,
                              .x_rows = 4,
                              .experts = 2,
                              .n = 2,
                              .k = 2,
                              .transpose_w = kernels::Transpose::yes,
                              .dtype = Dtype::f64};
    std::vector<char> workspace(kernels::grouped_gemm_workspace(Cpu{}, args));
    const Cpu on{.workspace = workspace.data(), .workspace_bytes = workspace.size()};
    return kernels::grouped_gemm(on, args);
  };
  CHECK(status({1, 2, 4}, {}) == Status::bad_args);
  CHECK(status({0, 3, 2}, {}) == Status::bad_args);
  CHECK(status({0, 2, 5}, {}) == Status::bad_args);
  CHECK(status({0, 2, 4}, {0, 1, 4, 0}) == Status::bad_args);
  CHECK(status({0, 2, 4}, {0, -1, 3, 0}) == Status::bad_args);
  CHECK(y == std::vector<double>(8, 7));  // nothing written
  CHECK(status({0, 2, 3}, {3, 1, 0, -1}) == Status::ok);
  CHECK(y == std::vector<double>{2, 2, 2, 2, 2, 2, 0, 0});
}

}  // namespace moat::tests
