#include "engine/ops/gate_losses.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "engine/ops/elementwise.h"
#include "engine/ops/reduce.h"
#include "engine/tape.h"
#include "tests/op_case.h"

namespace moat::tests {

using namespace engine;

namespace {

// A gate whose noise is given, as if topk_gate had drawn it.
Gate gate_with_noise(const Tensor& logits, const Tensor& noise, double deviation, int k) {
  const Tensor noisy = add(logits, noise);
  Gate gate = topk_gate(noisy, k, GateForm::softmax_topk);
  gate.noisy_logits = noisy;
  gate.deviation = deviation;
  return gate;
}

double loss_of(const Tensor& losses, GateLoss which) {
  return losses.to(Dtype::f64).to_vector<double>()[static_cast<size_t>(which)];
}

Tensor gradient_of(const Tensor& logits, int k, double deviation) {
  Tape tape;
  const Tensor x = tape.watch(logits);
  const Gate gate = topk_gate(x, k, GateForm::softmax_topk, {.noise = {.deviation = deviation}});
  return tape.gradients(sum(gate_losses(x, gate))).of(x);
}

}  // namespace

// Vectors computed with the released V-MoE router's losses.
TEST_CASE("gate losses: V-MoE's importance and GShard's balance of given gates", "[gate]") {
  const Tensor gates =
      Tensor::from<double>({.5, .4, .1, .3, .3, .4, .1, .2, .7, .8, .2, 0}, {4, 3});
  Tensor logits = gates.clone();
  for (int64_t i = 0; i < logits.size(); ++i) f64(logits)[i] = std::log(f64(gates)[i]);
  const Tensor losses = gate_losses(logits, topk_gate(logits, 2, GateForm::softmax_topk));
  CHECK(loss_of(losses, GateLoss::importance) == Approx(0.03875).epsilon(1e-12));
  CHECK(loss_of(losses, GateLoss::balance) == Approx(1.0875).epsilon(1e-12));
  CHECK(loss_of(losses, GateLoss::load) == 0);
  CHECK(loss_of(losses, GateLoss::z) == Approx(0).margin(1e-20));
}

TEST_CASE("gate losses: V-MoE's load of given noise", "[gate]") {
  const Tensor logits = Tensor::from<double>({.9, .06, .04, .7, .18, .12, .85, .05, .1}, {3, 3});
  const Tensor noise =
      Tensor::from<double>({-.037, .026, -.018, -.074, .045, -.015, -.067, -.059, .073}, {3, 3});
  const Tensor losses = gate_losses(logits, gate_with_noise(logits, noise, .1, 2));
  CHECK(loss_of(losses, GateLoss::load) == Approx(0.485739).margin(5e-7));
}

TEST_CASE("gate losses: all of them on one batch, with and without its noise", "[gate]") {
  const Tensor logits = Tensor::from<double>({2, 0, -1, 0, 1, 0, .5, .5, .5, -1, 0, 3}, {4, 3});
  const Tensor noise =
      Tensor::from<double>({.1, -.2, .3, -.3, .2, .1, .05, -.05, 0, .2, .1, -.1}, {4, 3});
  const Tensor noisy = gate_losses(logits, gate_with_noise(logits, noise, 1.0 / 3, 2)),
               clean = gate_losses(logits, topk_gate(logits, 2, GateForm::softmax_topk));
  CHECK(loss_of(noisy, GateLoss::importance) == Approx(0.0207550).margin(5e-8));
  CHECK(loss_of(noisy, GateLoss::load) == Approx(0.0253501).margin(5e-8));
  CHECK(loss_of(noisy, GateLoss::balance) == Approx(1.0082967).margin(5e-8));
  CHECK(loss_of(clean, GateLoss::importance) == Approx(0.0207550).margin(5e-8));
  CHECK(loss_of(clean, GateLoss::balance) == Approx(1.0136658).margin(5e-8));
  double z = 0;
  for (int64_t t = 0; t < 4; ++t) {
    const double* x = f64(logits) + 3 * t;
    z += std::pow(std::log(std::exp(x[0]) + std::exp(x[1]) + std::exp(x[2])), 2) / 4;
  }
  CHECK(loss_of(clean, GateLoss::z) == Approx(z).epsilon(1e-12));
}

TEST_CASE("gate losses: exact balance has finite gradients, zero where it is a minimum", "[gate]") {
  const Tensor logits = Tensor::zeros({8, 4}, Dtype::f64);
  const Tensor losses = gate_losses(logits, topk_gate(logits, 1, GateForm::softmax_topk));
  CHECK(loss_of(losses, GateLoss::importance) == 0);
  CHECK(loss_of(losses, GateLoss::balance) == 1);
  for (double deviation : {0.0, 0.25})
    for (double d : gradient_of(logits, 1, deviation).to_vector<double>()) CHECK(std::isfinite(d));
  Tape tape;
  const Tensor x = tape.watch(logits);
  const Tensor all = gate_losses(x, topk_gate(x, 1, GateForm::softmax_topk));
  const Tensor d = tape.gradients(all, Tensor::from<double>({1, 1, 0, 0}, {4})).of(x);
  for (double v : d.to_vector<double>()) CHECK(v == 0);
}

TEST_CASE("gate losses: finite for NaN and -inf logits, one expert, no tokens, a vanished load",
          "[gate]") {
  const double inf = std::numeric_limits<double>::infinity(), nan = std::nan("");
  const auto finite = [](const Tensor& x) {
    for (double v : x.to_vector<double>()) REQUIRE(std::isfinite(v));
  };
  for (double deviation : {0.0, 0.5}) {
    const Tensor odd = Tensor::from<double>({nan, 1, -inf, 2, 0, 1, 2, -1e5}, {2, 4});
    const GateOptions options{.noise = {.deviation = deviation}};
    finite(gate_losses(odd, topk_gate(odd, 2, GateForm::softmax_topk, options)));
    finite(gradient_of(odd, 2, deviation));
    finite(gradient_of(odd, 4, deviation));  // the threshold itself is -inf
    finite(gradient_of(randn({5, 1}, 1), 1, deviation));
    CHECK(gradient_of(Tensor::zeros({0, 3}, Dtype::f64), 1, deviation).size() == 0);
  }
  const Tensor logits = Tensor::from<double>({0, -1}, {1, 2});
  const Gate gate = gate_with_noise(logits, Tensor::from<double>({1000, 999}, {1, 2}), 1e-3, 1);
  CHECK(loss_of(gate_losses(logits, gate), GateLoss::load) == 0);
}

TEST_CASE("gate losses: the sums are the same bits for any number of threads", "[gate]") {
  const Tensor logits = randn({5000, 9}, 3).to(Dtype::f32);
  const Gate gate = topk_gate(logits, 2, GateForm::softmax_topk, {.noise = {.deviation = 0.1}});
  const auto first = gate_losses(logits, gate).to_vector<float>();
  CHECK(first == gate_losses(logits, gate).to_vector<float>());
  CHECK(first[0] ==
        Approx(loss_of(gate_losses(logits.to(Dtype::f64),
                                   topk_gate(logits.to(Dtype::f64), 2, GateForm::softmax_topk)),
                       GateLoss::importance))
            .epsilon(1e-5));
}

TEST_CASE("gate losses say what must hold", "[gate]") {
  const Tensor logits = Tensor::zeros({2, 3});
  const Gate gate = topk_gate(Tensor::zeros({3, 3}), 1, GateForm::softmax_topk);
  CHECK_THROWS_WITH(gate_losses(logits, gate),
                    "gate_losses: the gate must come from topk_gate of these logits");
}

}  // namespace moat::tests
