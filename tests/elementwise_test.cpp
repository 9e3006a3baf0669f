#include "engine/ops/elementwise.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "engine/tape.h"
#include "tests/op_case.h"

using namespace moat::engine;
using Catch::Matchers::Contains;

namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

Tensor row(const std::vector<float>& values) {
  return Tensor::from<float>(values, {static_cast<int64_t>(values.size())});
}

std::vector<float> gradient(Tensor (*op)(const Tensor&), const std::vector<float>& values) {
  Tape tape;
  const Tensor x = tape.watch(row(values)), y = op(x);
  return tape.gradients(y, Tensor::full(y.shape(), 1)).of(x).to_vector<float>();
}

}  // namespace

TEST_CASE("elementwise: NaN passes through, infinities keep their meaning") {
  for (auto op : {relu, exp, log, sqrt, square, moat::engine::abs, sign, tanh}) {
    // Long enough for the vector loop and its tail.
    const auto y = op(Tensor::full({37}, kNan)).to_vector<float>();
    for (float v : y) CHECK(std::isnan(v));
  }
  CHECK(std::isnan(clamp(row({kNan}), 0, 1).item()));
  CHECK(relu(row({-kInf, kInf, -0.0f})).to_vector<float>() == std::vector<float>{0, kInf, 0});
  CHECK(clamp(row({-kInf, kInf}), -1, 2).to_vector<float>() == std::vector<float>{-1, 2});
  CHECK(tanh(row({-kInf, kInf})).to_vector<float>() == std::vector<float>{-1, 1});
}

TEST_CASE("elementwise: gradients at the corners") {
  CHECK(gradient(relu, {-1, 0, 2}) == std::vector<float>{0, 0, 1});
  CHECK(gradient(moat::engine::abs, {-3, 0, 2}) == std::vector<float>{-1, 0, 1});
  CHECK(gradient(sign, {-3, 0, 2}) == std::vector<float>{0, 0, 0});
  CHECK(gradient([](const Tensor& x) { return clamp(x, 0, 1); }, {-1, 0, 0.5f, 1, 2}) ==
        std::vector<float>{0, 1, 1, 1, 0});
}

TEST_CASE("maximum: at a tie the gradient goes to the first operand, NaN wins") {
  Tape tape;
  const Tensor a = tape.watch(row({1, 2, 3})), b = tape.watch(row({2, 2, 2}));
  // An infinite gradient must not turn into NaN on the side that does not get it.
  const Gradients grads = tape.gradients(maximum(a, b), row({5, 6, kInf}));
  CHECK(grads.of(a).to_vector<float>() == std::vector<float>{0, 6, kInf});
  CHECK(grads.of(b).to_vector<float>() == std::vector<float>{5, 0, 0});
  for (float v : maximum(row({kNan, 1}), row({1, kNan})).to_vector<float>()) CHECK(std::isnan(v));
}

TEST_CASE("elementwise: both operands may be the same variable") {
  Tape tape;
  const Tensor x = tape.watch(row({3, -2}));
  const Gradients grads = tape.gradients(mul(x, x), row({1, 1}));
  CHECK(grads.of(x).to_vector<float>() == std::vector<float>{6, -4});
}

TEST_CASE("elementwise: bad input is named") {
  CHECK_THROWS_WITH(add(Tensor::zeros({2}), Tensor::zeros({3})), Contains("[2] and [3]"));
  CHECK_THROWS_WITH(mul(Tensor::zeros({2}), Tensor::zeros({2}, Dtype::f64)),
                    Contains("mul: both operands must have one dtype") && Contains("float64"));
  CHECK_THROWS_WITH(relu(Tensor::zeros({2}, Dtype::i32)), Contains("relu") && Contains("int32"));
  CHECK_THROWS_WITH(exp(Tensor{}), Contains("exp") && Contains("undefined"));
  CHECK_THROWS_WITH(clamp(Tensor::zeros({2}), 1, 0), Contains("low must not exceed high"));
}

TEST_CASE("cast: the gradient has the dtype of the operand") {
  Tape tape;
  const Tensor x = tape.watch(row({1, 2}));
  const Tensor y = cast(x, Dtype::bf16);
  CHECK(y.dtype() == Dtype::bf16);
  const Gradients grads = tape.gradients(y, Tensor::full({2}, 3, Dtype::bf16));
  CHECK(grads.of(x).to_vector<float>() == std::vector<float>{3, 3});
}
