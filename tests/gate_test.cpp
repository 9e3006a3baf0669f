#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

#include "engine/ops/elementwise.h"
#include "engine/ops/loss.h"
#include "engine/ops/moe.h"
#include "engine/ops/reduce.h"
#include "engine/tape.h"
#include "kernels/gate/sigmoid.h"
#include "tests/op_case.h"

namespace moat::tests {

using namespace engine;

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr GateForm kForms[] = {GateForm::softmax_topk, GateForm::softmax_topk_renorm,
                               GateForm::topk_softmax, GateForm::sigmoid_topk};

Gate gate_of(const std::vector<float>& row, int k, GateForm form, const Tensor& bias = {}) {
  return topk_gate(Tensor::from(row, {1, static_cast<int64_t>(row.size())}), k, form,
                   {.bias = bias});
}

std::vector<int32_t> experts_of(const Gate& gate) { return gate.experts.to_vector<int32_t>(); }
std::vector<float> weights_of(const Gate& gate) { return gate.weights.to_vector<float>(); }

// 0 … n - 1 by falling score, ties in order.
std::vector<int32_t> ranking(const std::vector<float>& scores) {
  std::vector<int32_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, std::greater(), [&](int32_t i) { return scores[size_t(i)]; });
  return order;
}

// The k best experts of the kept groups, by sorting.
std::vector<int32_t> sorted_choice(const std::vector<float>& row, int k, ExpertGroups g) {
  const int size = static_cast<int>(row.size()) / g.count;
  std::vector<float> scores;
  for (auto first = row.begin(); first < row.end(); first += size) {
    std::vector<float> group(first, first + size);
    std::ranges::sort(group, std::greater());
    const bool has_two = g.score == GroupScore::two_largest && size > 1 && group[1] > -kInf;
    scores.push_back(has_two ? group[0] + group[1] : group[0]);
  }
  auto groups = ranking(scores), experts = ranking(row);
  groups.resize(size_t(g.kept));
  std::erase_if(experts, [&](int32_t i) { return std::ranges::count(groups, i / size) == 0; });
  experts.resize(size_t(k));
  return experts;
}

}  // namespace

TEST_CASE("gate: ties go to the lowest index", "[gate]") {
  for (GateForm form : kForms) {
    const Gate gate = gate_of({1, 3, 3, 0, 3}, 2, form);
    CHECK(experts_of(gate) == std::vector<int32_t>{1, 2});
    CHECK(gate.margin.item() == 0);
  }
}

TEST_CASE("gate: a NaN logit counts as -inf", "[gate]") {
  for (GateForm form : kForms) {
    const Gate gate = gate_of({kNan, 1, kNan, 2}, 3, form);
    CHECK(experts_of(gate) == std::vector<int32_t>{3, 1, 0});
    CHECK(weights_of(gate)[2] == 0);
    CHECK(std::isfinite(weights_of(gate)[0]));
  }
}

TEST_CASE("gate: a row of NaN picks the lowest experts with equal weights", "[gate]") {
  for (GateForm form : kForms) {
    const Gate gate = gate_of({kNan, kNan, kNan, kNan}, 2, form);
    CHECK(experts_of(gate) == std::vector<int32_t>{0, 1});
    const float weight = form == GateForm::softmax_topk   ? 0.25f
                         : form == GateForm::sigmoid_topk ? 0.f
                                                          : 0.5f;
    CHECK(weights_of(gate) == std::vector<float>{weight, weight});
    CHECK(gate.margin.item() == 0);
    CHECK(gate.log_sum_exp.item() == -kInf);
  }
}

TEST_CASE("gate: infinite logits share the probability", "[gate]") {
  const Gate gate = gate_of({kInf, 0, kInf, -kInf}, 3, GateForm::softmax_topk);
  CHECK(experts_of(gate) == std::vector<int32_t>{0, 2, 1});
  CHECK(weights_of(gate) == std::vector<float>{0.5f, 0.5f, 0});
  CHECK(gate.margin.item() == kInf);
  CHECK(gate.log_sum_exp.item() == kInf);
}

TEST_CASE("gate: the bias selects and does not weigh; -inf stays last", "[gate]") {
  const Tensor bias = Tensor::from<float>({0, 0, 1, 100}, {4});
  const Gate gate = gate_of({2, 1, 0, -kInf}, 2, GateForm::sigmoid_topk, bias);
  CHECK(experts_of(gate) == std::vector<int32_t>{2, 0});
  CHECK(weights_of(gate)[0] == 0.5f);
  CHECK(weights_of(gate)[1] == Approx(1 / (1 + std::exp(-2.0))));
  CHECK(gate.margin.item() == Approx(1 / (1 + std::exp(-2.0)) - 1 / (1 + std::exp(-1.0))));
}

TEST_CASE("gate: every k of 4096 experts, and the margin of the last", "[gate]") {
  const Tensor logits = randn({2, 4096}, 1).to(Dtype::f32);
  const Gate all = topk_gate(logits, 4096, GateForm::softmax_topk);
  CHECK(all.margin.to_vector<float>() == std::vector<float>{kInf, kInf});
  const auto experts = experts_of(all);
  const float* z = logits.data_as<float>();
  for (size_t j = 1; j < 4096; ++j) REQUIRE(z[experts[j - 1]] >= z[experts[j]]);
  const Gate some = topk_gate(logits, 1000, GateForm::softmax_topk);
  CHECK(some.margin.to_vector<float>()[0] == z[experts[999]] - z[experts[1000]]);
}

TEST_CASE("gate: weights are finite and sum to one for logits of 1e5", "[gate]") {
  for (GateForm form : {GateForm::softmax_topk_renorm, GateForm::topk_softmax}) {
    const auto weights = weights_of(gate_of({-1e5f, 1e5f, 1e5f, 0}, 2, form));
    CHECK(weights == std::vector<float>{0.5f, 0.5f});
  }
}

TEST_CASE("gate: a token's result does not depend on the others", "[gate]") {
  const Tensor logits = randn({5000, 16}, 2).to(Dtype::f32);
  for (GateForm form : kForms) {
    const Gate all = topk_gate(logits, 3, form);
    for (const size_t t : {4321, 4999}) {
      const auto at = static_cast<int64_t>(t);
      const Gate one = topk_gate(logits.sliced(0, at, at + 1), 3, form);
      for (size_t j = 0; j < 3; ++j) {
        CHECK(experts_of(one)[j] == experts_of(all)[t * 3 + j]);
        CHECK(weights_of(one)[j] == weights_of(all)[t * 3 + j]);
      }
      CHECK(one.margin.item() == all.margin.to_vector<float>()[t]);
      CHECK(one.log_sum_exp.item() == all.log_sum_exp.to_vector<float>()[t]);
    }
  }
}

TEST_CASE("gate: the choice is that of a stable sort, for any number of tokens", "[gate]") {
  struct Case {
    int n, k;
    ExpertGroups groups = {};
  };
  for (const auto& [n, k, groups] :
       {Case{1, 1}, Case{5, 5}, Case{40, 33}, Case{60, 2}, Case{12, 3, {4, 2}}, Case{9, 3, {9, 4}},
        Case{12, 6, {4, 2, GroupScore::largest}}, Case{70, 20, {7, 2}}, Case{70, 1, {35, 30}}})
    for (const int64_t tokens : {1, 7, 8, 9, 16, 17, 50}) {
      const Tensor logits = rand_ints({tokens, n}, -1, 4, 10).to(Dtype::f32);
      float* z = logits.data_as<float>();  // ties, -0, rows and entries of -inf
      for (int64_t i = 0; i < logits.size(); ++i)
        z[i] = i / n % 5 == 3 || z[i] < 0 ? -kInf : z[i] == 0 && i % 2 ? -0.f : z[i];
      const auto row = [&](int64_t t) { return std::vector<float>(z + t * n, z + (t + 1) * n); };
      std::vector<int32_t> expected;
      for (int64_t t = 0; t < tokens; ++t)
        std::ranges::copy(sorted_choice(row(t), k, groups), std::back_inserter(expected));
      INFO(tokens << " tokens, " << k << " of " << n << " experts, " << groups.count << " groups");
      for (const Dtype dtype : {Dtype::f64, Dtype::f32, Dtype::bf16})
        REQUIRE(experts_of(topk_gate(logits.to(dtype), k, GateForm::softmax_topk,
                                     {.groups = groups})) == expected);
    }
}

TEST_CASE("gate: renormalised softmax is the softmax of the chosen, top-1 has no gradient",
          "[gate]") {
  const Tensor logits = randn({7, 9}, 3);
  CHECK(topk_gate(logits, 3, GateForm::softmax_topk_renorm).weights.to_vector<double>() ==
        topk_gate(logits, 3, GateForm::topk_softmax).weights.to_vector<double>());
  Tape tape;
  const Tensor x = tape.watch(logits);
  const Tensor d = tape.gradients(sum(topk_gate(x, 1, GateForm::topk_softmax).weights)).of(x);
  for (double v : d.to_vector<double>()) CHECK(v == 0);
}

TEST_CASE("the selection sigmoid is within 2 ulp and rises", "[gate]") {
  float before = 0;
  for (float x = -86; x <= 86; x += 0.0137f) {
    const float y = kernels::portable_sigmoid(x);
    const double exact = 1 / (1 + std::exp(-double{x}));
    const double ulp = double{std::nextafter(y, kInf)} - y;
    REQUIRE(std::abs(y - exact) <= 2 * ulp);
    REQUIRE(y >= before);
    before = y;
    const double exact64 = static_cast<double>(1 / (1 + std::exp(-static_cast<long double>(x))));
    REQUIRE(kernels::portable_sigmoid(double{x}) == Approx(exact64).epsilon(5e-16));
  }
  CHECK(kernels::portable_sigmoid(kInf) == 1);
  CHECK(kernels::portable_sigmoid(0.f) == 0.5f);
  CHECK(kernels::portable_sigmoid(-kInf) < 1e-37f);
}

TEST_CASE("straight-through: value 1, gradient of the score or of its softmax", "[gate]") {
  const Tensor scores = randn({4, 3}, 4), experts = Tensor::from<int32_t>({2, 0, 1, 1}, {4});
  const Tensor seed = randn({4}, 5);
  const auto gradient = [&](auto op) {
    Tape tape;
    const Tensor x = tape.watch(scores);
    const Tensor y = op(x);
    return tape.gradients(y, y.rank() == 1 ? seed : Tensor{}).of(x).template to_vector<double>();
  };
  const auto raw = gradient(
      [&](const Tensor& x) { return straight_through_gate(x, experts, StraightThrough::raw); });
  const auto soft = gradient(
      [&](const Tensor& x) { return straight_through_gate(x, experts, StraightThrough::softmax); });
  for (int64_t t = 0; t < 4; ++t) {
    const double* z = f64(scores) + t * 3;
    const int e = experts.data_as<int32_t>()[t];
    const double total = std::exp(z[0]) + std::exp(z[1]) + std::exp(z[2]);
    for (int i = 0; i < 3; ++i) {
      const double p = std::exp(z[i]) / total, chosen = std::exp(z[e]) / total;
      const auto at = size_t(t * 3 + i);
      CHECK(raw[at] == (i == e ? f64(seed)[t] : 0));
      CHECK(soft[at] == Approx(f64(seed)[t] * chosen * ((i == e) - p)).epsilon(1e-12));
    }
  }
}

TEST_CASE("gate: results for bfloat16 logits are float32, exact for their values", "[gate]") {
  const Tensor logits = randn({40, 12}, 6).to(Dtype::bf16), wide = logits.to(Dtype::f32);
  for (GateForm form : kForms) {
    const Gate a = topk_gate(logits, 3, form), b = topk_gate(wide, 3, form);
    CHECK(experts_of(a) == experts_of(b));
    CHECK(weights_of(a) == weights_of(b));
    CHECK(a.log_sum_exp.to_vector<float>() == b.log_sum_exp.to_vector<float>());
    CHECK(a.margin.to_vector<float>() == b.margin.to_vector<float>());
  }
}

TEST_CASE("gate: noise is a draw by sample, and everything follows the noisy logits", "[gate]") {
  const Tensor logits = randn({6, 10}, 7).to(Dtype::f32);
  const Tensor samples = Tensor::from<int32_t>({9, 4, 7, 4, 0, 123456}, {6});
  const RandomKey key{.seed = 11, .purpose = Purpose::gate_noise, .iteration = 2, .stream = 3};
  const GateOptions options{.noise = {.deviation = 0.1, .key = key, .samples = samples}};
  const Tensor noisy = add(logits, random_normal({6, 10}, samples, key, 0, 0.1));
  for (GateForm form : kForms) {
    const Gate gate = topk_gate(logits, 3, form, options), replayed = topk_gate(noisy, 3, form);
    CHECK(gate.noisy_logits.to_vector<float>() == noisy.to_vector<float>());
    CHECK(experts_of(gate) == experts_of(replayed));
    CHECK(weights_of(gate) == weights_of(replayed));
    CHECK(gate.margin.to_vector<float>() == replayed.margin.to_vector<float>());
    CHECK_FALSE(replayed.noisy_logits.defined());
  }
}

TEST_CASE("gate: group-limited selection, ties to the lowest group", "[gate]") {
  const std::vector<float> row{5, 0, 3, 3, 2, 4, 1, 1};  // sums of two: 5, 6, 6, 2; largest 5 3 4 1
  const auto experts = [&](int k, ExpertGroups groups) {
    return experts_of(
        topk_gate(Tensor::from(row, {1, 8}), k, GateForm::topk_softmax, {.groups = groups}));
  };
  CHECK(experts(2, {4, 1}) == std::vector<int32_t>{2, 3});
  CHECK(experts(3, {4, 2}) == std::vector<int32_t>{5, 2, 3});
  CHECK(experts(3, {4, 2, GroupScore::largest}) == std::vector<int32_t>{0, 5, 4});
  CHECK(experts(3, {4, 4}) == std::vector<int32_t>{0, 5, 2});
  const Gate tie =
      topk_gate(Tensor::from(row, {1, 8}), 1, GateForm::topk_softmax, {.groups = {4, 1}});
  CHECK(tie.margin.item() == 0);
  const Gate whole = topk_gate(Tensor::from(row, {1, 8}), 4, GateForm::topk_softmax,
                               {.groups = {4, 2, GroupScore::largest}});
  CHECK(whole.margin.item() == 1);  // no fifth expert is left, but group 1 is one behind group 2
}

TEST_CASE("gate: weights stay finite when groups leave the largest logit out", "[gate]") {
  const Gate gate = topk_gate(Tensor::from<float>({1e5f, -1e5f, 10, 9}, {1, 4}), 2,
                              GateForm::topk_softmax, {.groups = {2, 1}});
  CHECK(experts_of(gate) == std::vector<int32_t>{2, 3});
  CHECK(weights_of(gate)[0] == Approx(1 / (1 + std::exp(-1.0))));
}

TEST_CASE("gate: an expert at -inf adds nothing to its group", "[gate]") {
  const Gate gate = topk_gate(Tensor::from<float>({-kInf, -kInf, kNan, 5, 1, 1}, {1, 6}), 1,
                              GateForm::topk_softmax, {.groups = {3, 1}});
  CHECK(experts_of(gate) == std::vector<int32_t>{3});
}

TEST_CASE("gate: moving scores by less than half of the margin keeps the selection", "[gate]") {
  const Tensor logits = randn({200, 12}, 8);
  for (const ExpertGroups groups :
       {ExpertGroups{}, ExpertGroups{4, 2}, ExpertGroups{3, 1, GroupScore::largest}}) {
    const GateOptions options{.groups = groups};
    const Gate gate = topk_gate(logits, 3, GateForm::topk_softmax, options);
    const Tensor step = rand_ints({200, 12}, 0, 2, 9), moved = logits.clone();
    for (int64_t i = 0; i < moved.size(); ++i)
      f64(moved)[i] += (step.data_as<int32_t>()[i] * 2 - 1) * 0.499 * f64(gate.margin)[i / 12];
    const auto sorted = [](std::vector<int32_t> v) {
      for (auto row = v.begin(); row < v.end(); row += 3) std::sort(row, row + 3);
      return v;
    };
    CHECK(sorted(experts_of(topk_gate(moved, 3, GateForm::topk_softmax, options))) ==
          sorted(experts_of(gate)));
  }
}

TEST_CASE("gates say what must hold", "[gate]") {
  const Tensor logits = Tensor::zeros({2, 3});
  CHECK_THROWS_WITH(topk_gate(logits, 4, GateForm::softmax_topk),
                    "topk_gate: k must be in [1, 3], the number of experts, got 4");
  CHECK_THROWS_WITH(topk_gate(logits, 0, GateForm::softmax_topk), Catch::Contains("got 0"));
  CHECK_THROWS_WITH(topk_gate(logits, 1, GateForm::softmax_topk, {.bias = Tensor::zeros({3})}),
                    Catch::Contains("sigmoid_topk"));
  CHECK_THROWS_WITH(topk_gate(logits, 1, GateForm::sigmoid_topk, {.bias = Tensor::zeros({2})}),
                    "topk_gate: bias must be float32 [3], got float32 [2]");
  CHECK_THROWS_WITH(topk_gate(logits, 1, GateForm::topk_softmax, {.groups = {2, 1}}),
                    "topk_gate: cannot keep 1 of 2 equal groups of 3 experts");
  CHECK_THROWS_WITH(topk_gate(logits, 2, GateForm::topk_softmax, {.groups = {3, 1}}),
                    "topk_gate: k = 2 experts do not fit into 1 groups of 1");
  CHECK_THROWS_WITH(topk_gate(logits, 1, GateForm::topk_softmax, {.noise = {.deviation = -1}}),
                    Catch::Contains("deviation, got -1"));
  CHECK_THROWS_WITH(
      topk_gate(logits, 1, GateForm::topk_softmax, {.noise = {.samples = Tensor::zeros({2})}}),
      Catch::Contains("int32 [tokens]"));
  CHECK_THROWS_WITH(
      straight_through_gate(logits, Tensor::from<int32_t>({0, 3}, {2}), StraightThrough::raw),
      "straight_through_gate: experts must be in [0, 3), got 3 in row 1");
}

}  // namespace moat::tests
