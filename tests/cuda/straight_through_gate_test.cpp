#include "kernels/gate/straight_through_gate.h"

#include <cmath>
#include <limits>

#include "tests/cuda/device_memory.h"
#include "tests/random_values.h"

namespace moat::tests {

using namespace kernels;

namespace {

// Against float64: a few roundings of d p_e p_i each, and of the distances that exp takes.
template <class T>
void check(int tokens, int num_experts, StraightThrough form, const std::vector<double>& logits,
           size_t offset = 0) {
  INFO("straight-through [" << tokens << ", " << num_experts << "]");
  const size_t count = size_t(tokens) * size_t(num_experts);
  std::vector<T> scores = rounded<T>(logits);
  const std::vector<T> d_gate = rounded<T>(normals(size_t(tokens), 2));
  std::vector<int32_t> experts;
  for (int t = 0; t < tokens; ++t) experts.push_back((5 * t + 1) % num_experts);
  const std::vector<double> wide = widened(scores), wide_d = widened(d_gate);
  std::vector<double> want(count);
  StraightThroughGateGrad a{.scores = wide.data(),
                            .experts = experts.data(),
                            .d_gate = wide_d.data(),
                            .d_scores = want.data(),
                            .tokens = tokens,
                            .num_experts = num_experts,
                            .form = form,
                            .dtype = Dtype::f64};
  REQUIRE(straight_through_gate_grad(Cpu{}, a) == Status::ok);

  scores.insert(scores.begin(), offset, T{});
  const DeviceArray<T> x(scores), d(d_gate), result(count);
  const DeviceArray<int32_t> chosen(experts);
  a.scores = x.data() + offset;
  a.experts = chosen.data();
  a.d_gate = d.data();
  a.d_scores = result.data();
  a.dtype = dtype_of<T>;
  REQUIRE(run<StraightThroughGateGrad>(straight_through_gate_grad, a) == Status::ok);
  const std::vector<double> got = widened(result.host());
  for (size_t i = 0; i < count; ++i) {
    INFO("element " << i << ": " << got[i] << ", reference " << want[i]);
    if (std::isnan(want[i]))
      REQUIRE(std::isnan(got[i]));
    else
      REQUIRE(std::abs(got[i] - want[i]) <=
              (roundoff<T> + 64 * roundoff<compute_t<T>>)*std::abs(want[i]) +
                  std::numeric_limits<float>::min());
  }
}

}  // namespace

TEMPLATE_TEST_CASE("cuda: straight_through_gate_grad equals its float64 reference",
                   "[cuda][straight_through_gate]", double, float, Bf16) {
  for (const auto form : {StraightThrough::raw, StraightThrough::softmax})
    for (const auto& [tokens, n] :
         {std::pair{5, 1}, {7, 2}, {33, 3}, {5, 8}, {3, 61}, {4, 64}, {2, 130}, {3, 256}, {0, 4}})
      for (size_t offset : {0, 1})
        check<TestType>(tokens, n, form, normals(size_t(tokens) * size_t(n), unsigned(n)), offset);
}

TEST_CASE("cuda: straight_through_gate_grad of towering, tied, infinite and NaN scores",
          "[cuda][straight_through_gate]") {
  const double inf = std::numeric_limits<double>::infinity(), nan = std::nan("");
  for (const auto form : {StraightThrough::raw, StraightThrough::softmax})
    check<float>(7, 3, form, {0,   1e5, -1e5, 2,    2,    2,    0,   0,   60,   1, nan,
                              nan, inf, 0,    -inf, -inf, -inf, nan, nan, -inf, 1});
}

TEST_CASE("cuda: straight_through_gate_grad refuses bad extents before any launch",
          "[cuda][straight_through_gate]") {
  CHECK(straight_through_gate_grad(Cuda{}, {.tokens = -1, .num_experts = 2, .dtype = Dtype::f32}) ==
        Status::bad_args);
  CHECK(straight_through_gate_grad(Cuda{}, {.tokens = 1, .num_experts = 0, .dtype = Dtype::f32}) ==
        Status::bad_args);
}

}  // namespace moat::tests
