#include <catch2/catch.hpp>

#include "engine/nn/layers.h"
#include "engine/ops/reduce.h"
#include "engine/tape.h"
#include "tests/op_case.h"

using namespace moat;
using namespace moat::engine;

namespace {

ConvLayer unit() {
  InitStream init{.seed = 3};
  return ConvLayer(init_normal({4, 3, 3, 2}, 0.3, init), 1, {.stride = 1, .padding = 1});
}

// The same unit in evaluation mode without folding: convolution, then batch norm.
Tensor unfolded(const ConvLayer& unit, const Tensor& x) {
  return unit.norm->forward(conv2d(x, unit.filter, unit.options), Mode::eval, {}, Activation::relu);
}

void check_folded(const ConvLayer& unit, const Tensor& x) {
  const auto got = unit.forward(x, Mode::eval, nullptr, {}, Activation::relu).to_vector<float>();
  const auto want = unfolded(unit, x).to_vector<float>();
  for (size_t i = 0; i < got.size(); ++i) CHECK(got[i] == Approx(want[i]).margin(1e-5));
}

}  // namespace

// A folded copy of weights that have changed since would make every attack in AdvMoE's second level
// see an old network: its router update moves the statistics of the experts and nothing else.
TEST_CASE("ConvLayer folds anew whatever wrote its tensors") {
  const ConvLayer conv = unit();
  const Tensor x = tests::randn({6, 5, 5, 2}, 7).to(Dtype::f32);
  check_folded(conv, x);
  SECTION("a forward pass in training mode moves the running statistics") {
    conv.forward(x, Mode::train, nullptr, {}, Activation::relu);
    check_folded(conv, x);
  }
  SECTION("a parameter is overwritten") {
    conv.norm->bias.fill(0.5);
    check_folded(conv, x);
    conv.filter.copy_from(tests::randn(conv.filter.shape(), 8));
    check_folded(conv, x);
  }
  SECTION("another image size") {
    check_folded(conv, tests::randn({2, 8, 7, 2}, 9).to(Dtype::f32));
  }
}

TEST_CASE("ConvLayer differentiates its parameters in evaluation mode too") {
  ConvLayer conv = unit();
  const Tensor x = tests::randn({3, 5, 5, 2}, 7).to(Dtype::f32);
  Tape tape;
  conv.filter = tape.watch(conv.filter);
  const Tensor y = sum(conv.forward(x, Mode::eval, nullptr, {}, Activation::relu));
  CHECK(tape.gradients(y).of(conv.filter).defined());
}

TEST_CASE("ConvLayer with several experts asks for a route") {
  InitStream init{.seed = 3};
  const ConvLayer conv(init_normal({8, 3, 3, 2}, 0.3, init), 2, {.stride = 1, .padding = 1});
  CHECK_THROWS_WITH(
      conv.forward(Tensor::zeros({1, 5, 5, 2}), Mode::eval, nullptr, {}, Activation::relu),
      "ConvLayer: a convolution with several experts needs a route");
}
