#include "kernels/gate/topk_gate.h"

#include <cmath>
#include <limits>
#include <random>

#include "tests/cuda/device_memory.h"
#include "tests/random_values.h"
#include "tests/same_bits.h"

namespace moat::tests {

using namespace kernels;

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr GateForm kForms[] = {GateForm::softmax_topk, GateForm::softmax_topk_renorm,
                               GateForm::topk_softmax, GateForm::sigmoid_topk};

// The arguments of a gate but for its memory.
struct Gate {
  int tokens, num_experts, k;
  GateForm form = GateForm::softmax_topk;
  double deviation = 0;
  ExpertGroups groups = {};
  enum class Start { aligned, odd } start = Start::aligned;  // odd: rows begin between vectors

  size_t logits() const { return size_t(tokens) * size_t(num_experts); }
  size_t choices() const { return size_t(tokens) * size_t(k); }
};

// All that a gate writes; C is the compute format.
template <class C>
struct Result {
  std::vector<C> weights, log_sum_exp, margin, noisy;
  std::vector<int32_t> experts;
};

template <class T>
TopkGate args_of(const Gate& g) {
  return {.tokens = g.tokens,
          .num_experts = g.num_experts,
          .k = g.k,
          .form = g.form,
          .dtype = dtype_of<T>,
          .noise = {.deviation = g.deviation, .seed = 7, .iteration = 3, .purpose = 5, .stream = 9},
          .groups = g.groups};
}

template <class T>
Result<compute_t<T>> on_cpu(const Gate& g, const std::vector<T>& logits,
                            const std::vector<compute_t<T>>& bias = {},
                            const int32_t* samples = nullptr) {
  Result<compute_t<T>> r;
  r.weights.resize(g.choices());
  r.log_sum_exp.resize(size_t(g.tokens));
  r.margin.resize(size_t(g.tokens));
  r.noisy.resize(g.logits());
  r.experts.resize(g.choices());
  TopkGate a = args_of<T>(g);
  a.logits = logits.data();
  a.bias = bias.empty() ? nullptr : bias.data();
  a.weights = r.weights.data();
  a.experts = r.experts.data();
  a.log_sum_exp = r.log_sum_exp.data();
  a.margin = r.margin.data();
  a.noisy_logits = r.noisy.data();
  a.noise.samples = samples;
  std::vector<char> workspace(topk_gate_workspace(Cpu{}, a));
  REQUIRE(topk_gate(Cpu{.workspace = workspace.data(), .workspace_bytes = workspace.size()}, a) ==
          Status::ok);
  return r;
}

enum class Keep { noisy_logits, nothing };

template <class T>
Result<compute_t<T>> on_device(const Gate& g, const std::vector<T>& logits,
                               const std::vector<compute_t<T>>& bias = {},
                               const std::vector<int32_t>& samples = {},
                               Keep keep = Keep::nothing) {
  using C = compute_t<T>;
  const size_t offset = g.start == Gate::Start::odd ? 1 : 0;
  const DeviceArray<T> x(shifted(logits, offset));
  const DeviceArray<C> b(bias), weights(g.choices()), lse(size_t(g.tokens)),
      margin(size_t(g.tokens)), noisy(g.logits());
  const DeviceArray<int32_t> experts(g.choices()), ids(samples);
  TopkGate a = args_of<T>(g);
  a.logits = x.data() + offset;
  a.bias = bias.empty() ? nullptr : b.data();
  a.weights = weights.data();
  a.experts = experts.data();
  a.log_sum_exp = lse.data();
  a.margin = margin.data();
  a.noisy_logits = keep == Keep::noisy_logits ? noisy.data() : nullptr;
  a.noise.samples = samples.empty() ? nullptr : ids.data();
  REQUIRE(run<TopkGate>(topk_gate, a, topk_gate_workspace(Cuda{}, a)) == Status::ok);
  return {weights.host(), lse.host(), margin.host(), noisy.host(), experts.host()};
}

// Experts and margins are the CPU's bits. Weights and log-sum-exp are within a few roundings of
// float64; a weight exp(-d) / sum takes d roundings more from its rounded distance d. The sigmoid
// ends at the least normal number.
template <class T>
void check(const Gate& g, const std::vector<double>& values, const std::vector<double>& biases) {
  INFO("gate [" << g.tokens << ", " << g.num_experts << "] k=" << g.k << " form "
                << static_cast<int>(g.form) << " groups " << g.groups.kept << " of "
                << g.groups.count);
  using C = compute_t<T>;
  const auto logits = rounded<T>(values);
  const auto bias = rounded<C>(g.form == GateForm::sigmoid_topk ? biases : std::vector<double>{});
  const auto got = on_device<T>(g, logits, bias), want = on_cpu<T>(g, logits, bias);
  REQUIRE(got.experts == want.experts);
  REQUIRE(got.margin == want.margin);
  const auto exact = on_cpu<double>(g, widened(logits), widened(bias));
  const double u = roundoff<C>;
  for (size_t i = 0; i < got.weights.size(); ++i) {
    // The rounded scores of a sigmoid may tie where exact ones do not.
    if (exact.experts[i] != want.experts[i] && g.form == GateForm::sigmoid_topk) continue;
    const double y = exact.weights[i], tolerance = 24 * u * y * (y > 0 ? 1 - std::log(y) : 1);
    INFO("weight " << i << ": " << got.weights[i] << ", reference " << y);
    REQUIRE(std::abs(got.weights[i] - y) <= tolerance + 2 * std::numeric_limits<C>::min());
  }
  for (size_t t = 0; t < got.log_sum_exp.size(); ++t) {
    const double y = exact.log_sum_exp[t];
    if (std::isinf(y))
      REQUIRE(got.log_sum_exp[t] == y);
    else
      REQUIRE(std::abs(got.log_sum_exp[t] - y) <= 8 * u * std::max(1.0, std::abs(y)));
  }
}

template <class T>
void check_forms(Gate g, unsigned seed = 1) {
  const auto values = normals(g.logits(), seed + unsigned(g.num_experts), 2);
  for (GateForm form : kForms) {
    g.form = form;
    check<T>(g, values, normals(size_t(g.num_experts), seed + 1, 0.1));
  }
}

}  // namespace

TEMPLATE_TEST_CASE("cuda: topk_gate selects the CPU's experts", "[cuda][topk_gate]", float, Bf16) {
  for (const Gate& g : {Gate{5, 1, 1},
                        {9, 8, 2},
                        {7, 7, 7},
                        {3, 13, 3},
                        {33, 4, 1},
                        {5, 32, 2},
                        {3, 50, 4},
                        {5, 64, 8},
                        {2, 100, 5},
                        {3, 128, 8},
                        {2, 200, 9},
                        {3, 256, 8},
                        {1, 300, 12},
                        {1, 512, 1},
                        {1, 1000, 33},
                        {1, 1024, 6},
                        {1, 40, 40},
                        {1, 1030, 5},
                        {0, 8, 2}})
    check_forms<TestType>(g);
  for (int num_experts : {8, 64, 256})
    check_forms<TestType>({3, num_experts, 2, {}, 0, {}, Gate::Start::odd});
}

TEST_CASE("cuda: topk_gate of 4096 experts", "[cuda][topk_gate]") {
  const Gate g{1, 4096, 9, GateForm::softmax_topk_renorm};
  check<float>(g, normals(g.logits(), 2, 2), {});
}

TEST_CASE("cuda: topk_gate in float64", "[cuda][topk_gate]") {
  for (const Gate& g : {Gate{3, 8, 2}, {2, 13, 13}, {1, 200, 9}, {2, 12, 2, {}, 0, {4, 2}}})
    check_forms<double>(g);
}

TEST_CASE("cuda: topk_gate breaks ties by the lowest index", "[cuda][topk_gate]") {
  for (const Gate& g : {Gate{9, 8, 3}, {5, 30, 7}, {3, 128, 8}, {2, 256, 20}, {1, 1030, 9}}) {
    auto values = normals(g.logits(), 3, 1);
    for (double& x : values) x = std::rint(x);  // small integers, and zeros of both signs
    for (GateForm form : kForms) {
      Gate tied = g;
      tied.form = form;
      check<float>(tied, values, {});
      check<Bf16>(tied, values, {});
    }
    // Scores that differ in the last digits alone, beyond those of a 32-bit key.
    std::mt19937 engine(4);
    for (double& x : values) x = 1 + double(engine() % 8) * 0x1p-23;
    check<float>(g, values, {});
  }
}

TEST_CASE("cuda: topk_gate of NaN and infinities", "[cuda][topk_gate]") {
  const std::vector<double> rows = {kNan, 1,    kNan, 2,     kNan,  kNan,  kNan,  kNan,
                                    kInf, 0,    kInf, -kInf, -kInf, -kInf, -kInf, -kInf,
                                    1e5,  -1e5, 1e5,  0,     kInf,  kInf,  kNan,  3};
  for (int k : {1, 2, 4})
    for (GateForm form : kForms) {
      check<float>({6, 4, k, form}, rows, {0, 100, -1, 3});
      check<Bf16>({6, 4, k, form}, rows, {0, 100, -1, 3});
      check<double>({6, 4, k, form}, rows, {0, 100, -1, 3});
      check<float>({6, 4, 1, form, 0, {2, 1}}, rows, {});
      check<float>({2, 12, k, form, 0, {4, 2}}, rows, {});
    }
}

TEMPLATE_TEST_CASE("cuda: topk_gate keeps the best groups", "[cuda][topk_gate]", float, Bf16) {
  for (GroupScore score : {GroupScore::two_largest, GroupScore::largest})
    for (const Gate& g : {Gate{5, 64, 8, {}, 0, {8, 3}},
                          {2, 256, 8, {}, 0, {8, 4}},
                          {3, 48, 5, {}, 0, {3, 2}},
                          {3, 40, 4, {}, 0, {5, 1}},
                          {3, 12, 3, {}, 0, {4, 1}},
                          {2, 96, 6, {}, 0, {3, 1}},
                          {2, 24, 3, {}, 0, {2, 1}},
                          {4, 8, 2, {}, 0, {8, 2}},
                          {3, 16, 4, {}, 0, {4, 4}}}) {
      Gate limited = g;
      limited.groups.score = score;
      check_forms<TestType>(limited);
    }
}

TEST_CASE("cuda: tied groups, the lowest first", "[cuda][topk_gate]") {
  for (const Gate& g : {Gate{6, 64, 8, GateForm::topk_softmax, 0, {8, 3}},
                        {4, 12, 3, GateForm::topk_softmax, 0, {4, 2}}}) {
    auto values = normals(g.logits(), 5, 0.6);
    for (double& x : values) x = std::rint(x);
    check<float>(g, values, {});
  }
}

TEMPLATE_TEST_CASE("cuda: the gate's noise is the CPU's, bit for bit", "[cuda][topk_gate]", float,
                   Bf16, double) {
  for (const Gate& g : {Gate{3, 8, 2, {}, 0.125}, {2, 13, 3, {}, 1.0 / 13}, {1, 3, 1}}) {
    auto values = normals(g.logits(), 6, 2);
    values[1] = -0.0;
    const auto logits = rounded<TestType>(values);
    const std::vector<int32_t> samples = {5, 1 << 30, 77};
    const auto kept = on_device<TestType>(g, logits, {}, samples, Keep::noisy_logits);
    const auto want = on_cpu<TestType>(g, logits, {}, samples.data());
    REQUIRE(same_bits(kept.noisy, want.noisy));
    REQUIRE(kept.experts == want.experts);
    REQUIRE(same_bits(kept.margin, want.margin));
    const auto in_workspace = on_device<TestType>(g, logits, {}, samples);
    REQUIRE(same_bits(in_workspace.weights, kept.weights));
    const auto numbered = on_device<TestType>(g, logits, {}, {}, Keep::noisy_logits);
    REQUIRE(same_bits(numbered.noisy, on_cpu<TestType>(g, logits).noisy));
  }
}

// Against float64 on the same weights, per element: c u times the magnitudes that enter it, and one
// rounding of the result.
template <class T>
void check_grad(const Gate& g, const std::vector<double>& values, Keep keep = Keep::nothing) {
  INFO("gate grad [" << g.tokens << ", " << g.num_experts << "] k=" << g.k << " form "
                     << static_cast<int>(g.form));
  using C = compute_t<T>;
  const auto logits = rounded<T>(values);
  const auto d_weights = rounded<C>(normals(g.choices(), 5));
  const auto forward = on_cpu<T>(g, logits);
  const std::vector<double> wide_noisy = widened(forward.noisy), wide_w = widened(forward.weights),
                            wide_d = widened(d_weights);
  std::vector<double> want(g.logits());
  TopkGateGrad a{.logits = wide_noisy.data(),
                 .experts = forward.experts.data(),
                 .weights = wide_w.data(),
                 .d_weights = wide_d.data(),
                 .d_logits = want.data(),
                 .tokens = g.tokens,
                 .num_experts = g.num_experts,
                 .k = g.k,
                 .form = g.form,
                 .dtype = Dtype::f64};
  REQUIRE(topk_gate_grad(Cpu{}, a) == Status::ok);

  const DeviceArray<T> x(logits), d_logits(g.logits());
  const DeviceArray<C> noisy(forward.noisy), w(forward.weights), d(d_weights);
  const DeviceArray<int32_t> experts(forward.experts);
  a.logits = x.data();
  a.experts = experts.data();
  a.weights = w.data();
  a.d_weights = d.data();
  a.d_logits = d_logits.data();
  a.dtype = dtype_of<T>;
  a.noisy_logits = keep == Keep::noisy_logits ? noisy.data() : nullptr;
  REQUIRE(run<TopkGateGrad>(topk_gate_grad, a) == Status::ok);
  const std::vector<double> got = widened(d_logits.host());
  for (int t = 0; t < g.tokens; ++t) {
    double sum = 0;
    for (int j = 0; j < g.k; ++j)
      sum += std::abs(wide_w[size_t(t * g.k + j)] * wide_d[size_t(t * g.k + j)]);
    for (int i = 0; i < g.num_experts; ++i) {
      const auto at = size_t(t * g.num_experts + i);
      double magnitude =
          g.form == GateForm::softmax_topk
              ? sum * std::exp(wide_noisy[at] - double{forward.log_sum_exp[size_t(t)]})
              : 0;
      for (int j = 0; j < g.k; ++j)
        if (const auto pair = size_t(t * g.k + j); forward.experts[pair] == i)
          magnitude = wide_w[pair] * (std::abs(wide_d[pair]) + sum);
      INFO("token " << t << " expert " << i << ": " << got[at] << ", reference " << want[at]);
      REQUIRE(std::abs(got[at] - want[at]) <=
              roundoff<T> * std::abs(want[at]) + 64 * roundoff<C> * magnitude);
    }
  }
}

TEMPLATE_TEST_CASE("cuda: topk_gate_grad equals its float64 reference", "[cuda][topk_gate]", double,
                   float, Bf16) {
  for (const Gate& size : {Gate{5, 1, 1},
                           {5, 8, 2},
                           {3, 13, 13},
                           {9, 64, 8},
                           {3, 67, 5},
                           {2, 256, 8},
                           {1, 1030, 40},
                           {0, 8, 2}})
    for (GateForm form : kForms) {
      Gate g = size;
      g.form = form;
      check_grad<TestType>(g, normals(g.logits(), 6, 2));
      g.deviation = 0.3;
      check_grad<TestType>(g, normals(g.logits(), 6, 2), Keep::noisy_logits);
    }
}

TEST_CASE("cuda: topk_gate repeats its bits, and a token's do not depend on the others",
          "[cuda][topk_gate]") {
  for (const Gate& g : {Gate{21, 8, 2}, {9, 100, 6}, {3, 1100, 4}}) {
    const auto logits = rounded<float>(normals(g.logits(), 8, 2));
    const auto first = on_device<float>(g, logits), second = on_device<float>(g, logits);
    REQUIRE(same_bits(first.weights, second.weights));
    REQUIRE(same_bits(first.log_sum_exp, second.log_sum_exp));
    Gate alone = g;
    alone.tokens = 1;
    const std::vector<float> row(logits.end() - g.num_experts, logits.end());
    const auto last = on_device<float>(alone, row);
    REQUIRE(same_bits(last.weights, {first.weights.end() - g.k, first.weights.end()}));
    REQUIRE(last.log_sum_exp.back() == first.log_sum_exp.back());
  }
}

TEST_CASE("cuda: topk_gate refuses bad arguments before any launch", "[cuda][topk_gate]") {
  const TopkGate good = args_of<float>({2, 8, 2});
  const auto status = [&](auto change) {
    TopkGate a = good;
    change(a);
    return topk_gate(Cuda{}, a);
  };
  const float bias = 0;
  CHECK(status([](TopkGate& a) { a.tokens = -1; }) == Status::bad_args);
  CHECK(status([](TopkGate& a) { a.k = 9; }) == Status::bad_args);
  CHECK(status([](TopkGate& a) { a.k = 0; }) == Status::bad_args);
  CHECK(status([&](TopkGate& a) { a.bias = &bias; }) == Status::bad_args);
  CHECK(status([](TopkGate& a) { a.groups = {3, 1}; }) == Status::bad_args);
  CHECK(status([](TopkGate& a) { a.groups = {8, 1}; }) == Status::bad_args);
  CHECK(status([](TopkGate& a) { a.groups = {4, 5}; }) == Status::bad_args);
  CHECK(status([](TopkGate& a) { a.noise.deviation = -1; }) == Status::bad_args);
  CHECK(status([](TopkGate& a) { a.noise.stream = 1u << 24; }) == Status::bad_args);
  CHECK(status([](TopkGate& a) { a.noise.deviation = 1; }) == Status::small_workspace);
  CHECK(status([](TopkGate& a) { a.num_experts = 4097; }) == Status::unsupported);
  CHECK(topk_gate_grad(Cuda{}, {.tokens = 1, .num_experts = 2, .k = 3, .dtype = Dtype::f32}) ==
        Status::bad_args);
}

}  // namespace moat::tests
