#include "engine/tape.h"

#include <catch2/catch.hpp>

#include "engine/ops/elementwise.h"
#include "engine/ops/reduce.h"

using namespace moat::engine;
using Catch::Matchers::Contains;

namespace {

Tensor value(double v) { return Tensor::full({1}, v); }

// x · w, counting how often the gradient of either side is asked for.
Tensor counted_product(const Tensor& x, const Tensor& w, int& d_x, int& d_w) {
  const Tensor y = mul(x.detached(), w.detached());
  return recorded("counted", {x, w}, y, [=, &d_x, &d_w](const Tensors& d, const Needs& needs) {
    d_x += needs[0];
    d_w += needs[1];
    return Tensors{needs[0] ? mul(d[0], w) : Tensor{}, needs[1] ? mul(d[0], x) : Tensor{}};
  });
}

}  // namespace

TEST_CASE("nothing is recorded without a tape, or for constants") {
  CHECK(add(value(1), value(2)).var() == 0);
  Tape tape;
  CHECK(Tape::active() == &tape);
  CHECK(add(value(1), value(2)).var() == 0);
  CHECK(add(tape.watch(value(1)), value(2)).var() != 0);
  {
    const NoTapeScope none;
    CHECK(Tape::active() == nullptr);
    CHECK_FALSE(is_differentiated(tape.watch(value(1))));
  }
  CHECK(Tape::active() == &tape);
  CHECK_FALSE(is_differentiated(value(1)));
  CHECK_FALSE(is_differentiated(Tensor{}));
}

TEST_CASE("gradients add up where a variable is used more than once") {
  Tape tape;
  const Tensor x = tape.watch(value(3));
  const Tensor y = mul(x, x);          // 9
  const Tensor z = add(mul(y, x), y);  // x^3 + x^2
  CHECK(tape.gradients(z).of(x).item() == 3 * 9 + 2 * 3);
}

TEST_CASE("a tape that keeps what it saved can be asked again") {
  Tape tape;
  const Tensor x = tape.watch(value(3)), y = mul(x, x), z = mul(y, x);
  CHECK(tape.gradients(z, value(1), BackwardPass::not_last).of(x).item() == 27);
  CHECK(tape.gradients(y, value(1), BackwardPass::not_last).of(x).item() == 6);
  CHECK(tape.gradients(z, value(2), BackwardPass::not_last).of(x).item() == 54);
  CHECK(tape.gradients(z).of(x).item() == 27);
  CHECK_FALSE(tape.gradients(z).of(x).defined());  // freed by the one before
}

TEST_CASE("what the output does not depend on has no gradient") {
  Tape tape;
  const Tensor x = tape.watch(value(3)), unused = tape.watch(value(4));
  const Tensor dead_end = exp(x);
  CHECK(dead_end.defined());
  const Gradients grads = tape.gradients(scale(x, 2));
  CHECK(grads.of(x).item() == 2);
  CHECK_FALSE(grads.of(unused).defined());
  Tape other;
  CHECK_FALSE(other.gradients(value(1)).of(x).defined());
}

TEST_CASE("the seed must have the output's shape and type; a single value needs none") {
  Tape tape;
  const Tensor x = tape.watch(Tensor::full({2, 3}, 1));
  const Tensor y = scale(x, 3);
  CHECK_THROWS_WITH(tape.gradients(y), Contains("[2, 3]"));
  CHECK_THROWS_WITH(tape.gradients(y, Tensor::zeros({3, 2})), Contains("[2, 3]"));
  CHECK_THROWS_WITH(tape.gradients(y, Tensor::full({2, 3}, 2, Dtype::f64)),
                    Contains("float32 output") && Contains("got float64"));
  const auto d = tape.gradients(y, Tensor::full({2, 3}, 2)).of(x).to_vector<float>();
  CHECK(d == std::vector<float>(6, 6.0f));
}

TEST_CASE("a watched tensor that is the output has the seed as its gradient") {
  Tape tape;
  const Tensor x = tape.watch(value(5));
  CHECK(tape.gradients(x).of(x).item() == 1);
}

TEST_CASE("an inner tape sees nothing of the outer one and computes no weight gradient") {
  Tape outer;
  const Tensor weight = outer.watch(value(2));
  int d_x = 0, d_w = 0;
  {
    Tape inner;
    CHECK(Tape::active() == &inner);
    CHECK(outer.sees(weight));
    CHECK_FALSE(inner.sees(weight));
    const Tensor x = inner.watch(value(3));
    const Gradients grads = inner.gradients(counted_product(x, weight, d_x, d_w));
    CHECK(grads.of(x).item() == 2);
    CHECK_FALSE(grads.of(weight).defined());
    CHECK(d_x == 1);
    CHECK(d_w == 0);
  }
  CHECK(Tape::active() == &outer);
  const Gradients grads = outer.gradients(counted_product(value(3), weight, d_x, d_w));
  CHECK(grads.of(weight).item() == 3);
  CHECK(d_x == 1);
  CHECK(d_w == 1);
}

TEST_CASE("the backward pass itself is not recorded and frees what was saved") {
  Tape tape;
  const Tensor x = tape.watch(Tensor::full({1 << 16}, 2));
  const Tensor loss = sum(exp(exp(x)));
  const size_t before = memory_use().live;
  const Tensor d = tape.gradients(loss).of(x);
  CHECK(d.var() == 0);
  // Two saved exponentials are gone, one gradient is there.
  CHECK(memory_use().live < before);
  CHECK_FALSE(tape.gradients(loss).of(x).defined());  // consumed
}

TEST_CASE("a VJP with the wrong number of gradients is named") {
  Tape tape;
  const Tensor x = tape.watch(value(1));
  const Tensor y =
      recorded("crooked", {x}, value(1), [](const Tensors&, const Needs&) { return Tensors{}; });
  CHECK_THROWS_WITH(tape.gradients(y), Contains("crooked"));
}

namespace {

// 2 x; the VJP does what the tape would and notes what it was given.
struct Given {
  bool added = false, mask = false;
};
Tensor twice(const Tensor& x, Given& given, Source source = Source::any) {
  const auto vjp = [&given](const Tensors& d, const Needs&, const Finish& finish) -> Tensors {
    given = {finish.added.defined(), finish.mask.defined()};
    Tensor d_x = scale(d[0], 2);
    if (finish.added.defined()) d_x = add(d_x, finish.added);
    if (finish.mask.defined()) d_x = behind_relu(d_x, finish.mask);
    return {d_x};
  };
  return recorded_finishing("twice", {x}, scale(x.detached(), 2), vjp, source);
}

Tensor row(std::vector<float> values) {
  return Tensor::from(values, {static_cast<int64_t>(values.size())});
}
std::vector<float> gradient(Tape& tape, const Tensor& y, const Tensor& x) {
  return tape.gradients(y, Tensor::full(y.shape(), 1)).of(x).to_vector<float>();
}

}  // namespace

TEST_CASE("the first reader of a relu's result adds and masks its gradient, if it can") {
  Given first, second;
  Tape tape;
  const Tensor x = tape.watch(row({-1, 2, 0})), h = relu(x);
  SECTION("it gets what came by other ways, and the mask") {
    const Tensor a = twice(h, first), b = twice(h, second);
    CHECK(gradient(tape, add(add(a, b), h), x) == std::vector<float>{0, 5, 0});
    CHECK((first.added && first.mask));
    CHECK((second.added && !second.mask));
  }
  SECTION("it is the only one") {
    CHECK(gradient(tape, twice(h, first), x) == std::vector<float>{0, 2, 0});
    CHECK((!first.added && first.mask));
  }
  SECTION("the first reader cannot: the tape masks") {
    const Tensor a = affine(h, 3, 0), b = twice(h, first);
    CHECK(gradient(tape, add(a, b), x) == std::vector<float>{0, 5, 0});
    CHECK((!first.added && !first.mask));
  }
  SECTION("the first reader has no gradient: the tape masks") {
    const Tensor unused = twice(h, first), b = affine(h, 3, 0);
    CHECK(unused.defined());
    CHECK(gradient(tape, b, x) == std::vector<float>{0, 3, 0});
  }
  SECTION("an op that reads it twice is given neither") {
    const Tensor y =
        recorded_finishing("both", {h, h}, add(h.detached(), h.detached()),
                           [&](const Tensors& d, const Needs&, const Finish& finish) -> Tensors {
                             first = {finish.added.defined(), finish.mask.defined()};
                             return {d[0], d[0]};
                           });
    CHECK(gradient(tape, add(y, h), x) == std::vector<float>{0, 3, 0});
    CHECK((!first.added && !first.mask));
  }
  SECTION("pass after pass") {
    const Tensor y = add(twice(h, first), h), seed = Tensor::full(y.shape(), 1);
    for (const auto pass : {BackwardPass::not_last, BackwardPass::not_last, BackwardPass::last})
      CHECK(tape.gradients(y, seed, pass).of(x).to_vector<float>() == std::vector<float>{0, 3, 0});
  }
  SECTION("the relu's result is what the gradient is of") {
    CHECK(gradient(tape, h, x) == std::vector<float>{0, 1, 0});
  }
}

TEST_CASE("a variable that is no relu's result is added to, and not masked") {
  Given given;
  Tape tape;
  const Tensor x = tape.watch(row({-1, 2, 0}));
  CHECK(gradient(tape, add(twice(x, given), x), x) == std::vector<float>{3, 3, 3});
  CHECK((given.added && !given.mask));
}

TEST_CASE("an op with a relu inside gets the gradient behind it") {
  Given given;
  Tape tape;
  const Tensor x = tape.watch(row({-1, 2, 0}));
  // max(2 x, 0), whose VJP knows of 2 x alone.
  const Tensor y = recorded(
      "inside", {x}, row({0, 4, 0}),
      [](const Tensors& d, const Needs&) { return Tensors{scale(d[0], 2)}; }, Source::relu);
  CHECK(gradient(tape, twice(y, given), x) == std::vector<float>{0, 4, 0});
  CHECK(given.mask);
}

TEST_CASE("an undefined gradient counts as zero") {
  Tape tape;
  const Tensor x = tape.watch(value(3));
  const Tensor y = recorded("stop", {x}, value(1),
                            [](const Tensors&, const Needs&) { return Tensors{Tensor{}}; });
  CHECK(tape.gradients(add(y, x)).of(x).item() == 1);
}
