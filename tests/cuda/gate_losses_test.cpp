#include "kernels/gate/gate_losses.h"

#include <cmath>
#include <limits>

#include "kernels/gate/topk_gate.h"
#include "tests/cuda/device_memory.h"
#include "tests/random_values.h"

namespace moat::tests {

using namespace kernels;

namespace {

enum class Noise { none, added };

struct Size {
  int tokens, num_experts, k;
  size_t logits() const { return size_t(tokens) * size_t(num_experts); }
};

// A gate's logits and what was chosen from them. C is the compute format.
template <class T>
struct Chosen {
  using C = compute_t<T>;
  Size size;
  double deviation = 0.3;
  std::vector<T> logits;
  std::vector<C> noisy;  // empty: no noise
  std::vector<int32_t> experts;

  Chosen(Size s, Noise noise, const std::vector<double>& values)
      : size(s), logits(rounded<T>(values)) {
    std::vector<C> seen = rounded<C>(widened(logits)), unused(seen.size() + size_t(s.tokens) * 2);
    if (noise == Noise::added) {
      const auto z = normals(values.size(), 9);
      for (size_t i = 0; i < seen.size(); ++i) seen[i] += C(deviation * z[i]);
      noisy = seen;
    }
    experts.resize(size_t(s.tokens) * size_t(s.k));
    std::vector<C> weights(experts.size());
    TopkGate gate{.logits = seen.data(),
                  .weights = weights.data(),
                  .experts = experts.data(),
                  .log_sum_exp = unused.data(),
                  .margin = unused.data() + s.tokens,
                  .tokens = s.tokens,
                  .num_experts = s.num_experts,
                  .k = s.k,
                  .form = GateForm::softmax_topk,
                  .dtype = dtype_of<C>};
    std::vector<char> workspace(topk_gate_workspace(Cpu{}, gate));
    REQUIRE(topk_gate(Cpu{.workspace = workspace.data(), .workspace_bytes = workspace.size()},
                      gate) == Status::ok);
  }

  template <class Args>
  Args args(const void* x, const void* y, const int32_t* chosen, Dtype dtype) const {
    Args a{};
    a.logits = x;
    a.noisy_logits = noisy.empty() ? nullptr : y;
    a.experts = chosen;
    a.tokens = size.tokens;
    a.num_experts = size.num_experts;
    a.k = size.k;
    a.deviation = noisy.empty() ? 0 : deviation;
    a.dtype = dtype;
    return a;
  }
};

struct Losses {
  std::vector<double> losses, sums, d_logits;
};

// The losses and their gradient in float64, of the same rounded logits.
template <class T>
Losses in_float64(const Chosen<T>& c, const std::vector<double>& d_losses) {
  const std::vector<double> x = widened(c.logits), y = widened(c.noisy);
  Losses r{std::vector<double>(kGateLosses),
           std::vector<double>(size_t(kExpertSums * c.size.num_experts)),
           std::vector<double>(x.size())};
  auto a = c.template args<GateLosses>(x.data(), y.data(), c.experts.data(), Dtype::f64);
  a.losses = r.losses.data();
  a.sums = r.sums.data();
  auto g = c.template args<GateLossesGrad>(x.data(), y.data(), c.experts.data(), Dtype::f64);
  g.sums = r.sums.data();
  g.d_losses = d_losses.data();
  g.d_logits = r.d_logits.data();
  std::vector<char> memory(gate_losses_workspace(Cpu{}, a) + gate_losses_grad_workspace(Cpu{}, g));
  const Cpu on{.workspace = memory.data(), .workspace_bytes = memory.size()};
  REQUIRE(gate_losses(on, a) == Status::ok);
  REQUIRE(gate_losses_grad(on, g) == Status::ok);
  return r;
}

template <class T>
Losses on_device(const Chosen<T>& c, const std::vector<double>& d_losses) {
  using C = compute_t<T>;
  const DeviceArray<T> x(c.logits), d_logits(c.logits.size());
  const DeviceArray<C> y(c.noisy), losses(kGateLosses), d(rounded<C>(d_losses));
  const DeviceArray<int32_t> experts(c.experts);
  const DeviceArray<double> sums(size_t(kExpertSums * c.size.num_experts));
  auto a = c.template args<GateLosses>(x.data(), y.data(), experts.data(), dtype_of<T>);
  a.losses = losses.data();
  a.sums = sums.data();
  REQUIRE(run<GateLosses>(gate_losses, a, gate_losses_workspace(Cuda{}, a)) == Status::ok);
  auto g = c.template args<GateLossesGrad>(x.data(), y.data(), experts.data(), dtype_of<T>);
  g.sums = sums.data();
  g.d_losses = d.data();
  g.d_logits = d_logits.data();
  REQUIRE(run<GateLossesGrad>(gate_losses_grad, g, gate_losses_grad_workspace(Cuda{}, g)) ==
          Status::ok);
  return {widened(losses.host()), sums.host(), widened(d_logits.host())};
}

// A sum of t positive terms, each within c u: within c u of itself. A loss is a mean of such, a
// variation the difference of two that are at most 1 + variation. A gradient's terms are bounded by
// the largest of the batch.
template <class T>
void check(const Chosen<T>& c, const std::vector<double>& d_losses = {1, -2, 0.5, 0.25}) {
  const double u = roundoff<compute_t<T>>;
  INFO("gate losses [" << c.size.tokens << ", " << c.size.num_experts << "] k=" << c.size.k
                       << (c.noisy.empty() ? "" : " noisy"));
  const Losses want = in_float64(c, d_losses), got = on_device(c, d_losses);
  for (size_t i = 0; i < want.sums.size(); ++i) {
    INFO("sum " << i << ": " << got.sums[i] << ", reference " << want.sums[i]);
    REQUIRE(std::abs(got.sums[i] - want.sums[i]) <= 64 * u * std::max(want.sums[i], 1e-3));
  }
  for (size_t i = 0; i < want.losses.size(); ++i) {
    INFO("loss " << i << ": " << got.losses[i] << ", reference " << want.losses[i]);
    REQUIRE(std::abs(got.losses[i] - want.losses[i]) <=
            (64 * u + c.size.num_experts * roundoff<double>)*(1 + want.losses[i]));
  }
  double largest = 0;
  for (double d : want.d_logits) largest = std::max(largest, std::abs(d));
  for (size_t i = 0; i < want.d_logits.size(); ++i) {
    INFO("d_logits " << i << ": " << got.d_logits[i] << ", reference " << want.d_logits[i]);
    REQUIRE(std::abs(got.d_logits[i] - want.d_logits[i]) <=
            roundoff<T> * std::abs(want.d_logits[i]) +
                (64 * u + c.size.num_experts * roundoff<double>)*(largest + 1e-3));
  }
}

}  // namespace

TEMPLATE_TEST_CASE("cuda: gate_losses and their gradient equal their float64 reference",
                   "[cuda][gate_losses]", double, float, Bf16) {
  for (const Size& s : {Size{5, 1, 1},
                        {1, 3, 3},
                        {70, 7, 2},
                        {130, 8, 2},
                        {600, 3, 1},
                        {9, 64, 8},
                        {5, 67, 5},
                        {3, 256, 8},
                        {1, 1030, 4}})
    for (Noise noise : {Noise::none, Noise::added})
      check(Chosen<TestType>(s, noise, normals(s.logits(), unsigned(s.num_experts))));
}

TEST_CASE("cuda: gate_losses of no tokens are zero", "[cuda][gate_losses]") {
  for (Noise noise : {Noise::none, Noise::added}) {
    const Losses r = on_device(Chosen<float>({0, 5, 2}, noise, {}), {1, 1, 1, 1});
    CHECK(r.losses == std::vector<double>(4, 0.0));
    CHECK(r.sums == std::vector<double>(20, 0.0));
  }
}

TEST_CASE("cuda: gate_losses at exact balance, and with all tokens on one expert",
          "[cuda][gate_losses]") {
  const Chosen<float> even({8, 4, 1}, Noise::none, std::vector<double>(32, 0.0));
  const Losses r = on_device(even, {1, 1, 0, 0});
  CHECK(r.losses[0] == 0);
  CHECK(r.losses[2] == 1);
  for (double d : r.d_logits) CHECK(d == 0);
  std::vector<double> one(64, -60);
  for (size_t t = 0; t < 8; ++t) one[t * 8 + 3] = 60;
  const Losses hot = on_device(Chosen<float>({8, 8, 1}, Noise::none, one), {1, 1, 1, 1});
  CHECK(hot.losses[0] == Approx(7));
  CHECK(hot.losses[2] == Approx(8));
  check(Chosen<float>({8, 8, 1}, Noise::added, one));
}

TEST_CASE("cuda: gate_losses are finite for NaN and -inf", "[cuda][gate_losses]") {
  const double inf = std::numeric_limits<double>::infinity(), nan = std::nan("");
  for (Noise noise : {Noise::none, Noise::added})
    for (int k : {1, 2, 4}) {
      const Chosen<float> c({2, 4, k}, noise, {nan, 1, -inf, 2, 0, 1, 2, -1e5});
      check(c);
      for (double d : on_device(c, {1, 1, 1, 1}).d_logits) CHECK(std::isfinite(d));
    }
}

TEST_CASE("cuda: gate_losses repeat their bits", "[cuda][gate_losses]") {
  const Chosen<float> c({150, 6, 2}, Noise::added, normals(900, 3));
  const Losses first = on_device(c, {1, 1, 1, 1}), second = on_device(c, {1, 1, 1, 1});
  CHECK(first.losses == second.losses);
  CHECK(first.sums == second.sums);
  CHECK(first.d_logits == second.d_logits);
}

TEST_CASE("cuda: gate_losses refuse bad arguments before any launch", "[cuda][gate_losses]") {
  GateLosses a{};
  a.tokens = 2;
  a.num_experts = 4;
  a.k = 2;
  a.dtype = Dtype::f32;
  CHECK(gate_losses(Cuda{}, a) == Status::small_workspace);
  a.noisy_logits = &a;  // without a deviation
  CHECK(gate_losses(Cuda{}, a) == Status::bad_args);
  a.deviation = 1;
  a.k = 5;
  CHECK(gate_losses(Cuda{}, a) == Status::bad_args);
  a.num_experts = 5000;
  CHECK(gate_losses(Cuda{}, a) == Status::unsupported);
  GateLossesGrad g{};
  g.tokens = -1;
  g.num_experts = g.k = 1;
  g.dtype = Dtype::f32;
  CHECK(gate_losses_grad(Cuda{}, g) == Status::bad_args);
  g.tokens = 1;
  CHECK(gate_losses_grad(Cuda{}, g) == Status::small_workspace);
}

}  // namespace moat::tests
