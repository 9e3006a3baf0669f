// What the gate counts, and what routing_index makes of it.

#include <algorithm>

#include "kernels/gate/topk_gate.h"
#include "kernels/routing/routing_index.h"
#include "tests/cuda/device_memory.h"
#include "tests/random_values.h"

namespace moat::tests {

using namespace kernels;

namespace {

using Indices = std::vector<int32_t>;

// [token_pieces(tokens).count, num_experts] by plain counting.
Indices counts_of(const Indices& experts, int k, int num_experts) {
  const TokenPieces pieces = token_pieces(static_cast<int>(experts.size()) / k);
  Indices counts(size_t(pieces.count) * size_t(num_experts));
  for (size_t pair = 0; pair < experts.size(); ++pair)
    ++counts[pair / size_t(k) / size_t(pieces.each) * size_t(num_experts) + size_t(experts[pair])];
  return counts;
}

struct Gate {
  int tokens, num_experts, k;
  ExpertGroups groups = {};
  double deviation = 0;
};
enum class Counts { wanted, not_wanted };

struct Chosen {
  Indices experts, counts;
  std::vector<double> weights, margin, log_sum_exp;
};

template <class T>
Chosen gate(const Gate& g, const std::vector<double>& logits, Counts wanted) {
  using C = compute_t<T>;
  const size_t choices = size_t(g.tokens) * size_t(g.k);
  const DeviceArray<T> x(rounded<T>(logits));
  const DeviceArray<C> weights(choices), log_sum_exp(size_t(g.tokens)), margin(size_t(g.tokens));
  const DeviceArray<int32_t> experts(choices),
      counts(wanted == Counts::wanted ? size_t(token_pieces(g.tokens).count) * size_t(g.num_experts)
                                      : 0);
  const TopkGate a{.logits = x.data(),
                   .bias = nullptr,
                   .weights = weights.data(),
                   .experts = experts.data(),
                   .log_sum_exp = log_sum_exp.data(),
                   .margin = margin.data(),
                   .tokens = g.tokens,
                   .num_experts = g.num_experts,
                   .k = g.k,
                   .form = GateForm::topk_softmax,
                   .dtype = dtype_of<T>,
                   .noise = {.deviation = g.deviation, .seed = 3},
                   .groups = g.groups,
                   .counts = wanted == Counts::wanted ? counts.data() : nullptr};
  REQUIRE(run<TopkGate>(topk_gate, a, topk_gate_workspace(Cuda{}, a)) == Status::ok);
  return {experts.host(), counts.host(), widened(weights.host()), widened(margin.host()),
          widened(log_sum_exp.host())};
}

template <class T>
void check_gate(const Gate& g, const std::vector<double>& logits) {
  INFO("gate [" << g.tokens << ", " << g.num_experts << "] k=" << g.k << " groups " << g.groups.kept
                << " of " << g.groups.count);
  const Chosen with = gate<T>(g, logits, Counts::wanted),
               without = gate<T>(g, logits, Counts::not_wanted);
  REQUIRE(with.counts == counts_of(without.experts, g.k, g.num_experts));
  REQUIRE(with.experts == without.experts);
  REQUIRE(with.weights == without.weights);
  REQUIRE(with.margin == without.margin);
  REQUIRE(with.log_sum_exp == without.log_sum_exp);
}
template <class T>
void check_gate(const Gate& g) {
  check_gate<T>(g, normals(size_t(g.tokens) * size_t(g.num_experts), 1));
}

struct Routed {
  Indices offsets, row_token, slot_of;
  bool operator==(const Routed&) const = default;
};

// With `counts` unless they are empty.
Routed route(const Indices& experts, int k, int num_experts, const Indices& counts,
             int capacity = 0) {
  const Indices unwritten(experts.size(), 77);
  const DeviceArray<int32_t> chosen(experts), offsets(size_t(num_experts) + 1),
      row_token(unwritten), slot_of(unwritten), counted(counts);
  const RoutingIndex a{.experts = chosen.data(),
                       .priority = nullptr,
                       .offsets = offsets.data(),
                       .row_token = row_token.data(),
                       .slot_of = slot_of.data(),
                       .tokens = static_cast<int>(experts.size()) / k,
                       .k = k,
                       .num_experts = num_experts,
                       .capacity = capacity,
                       .counts = counts.empty() ? nullptr : counted.data()};
  REQUIRE(run<RoutingIndex>(routing_index, a, routing_index_workspace(Cuda{}, a)) == Status::ok);
  REQUIRE(counted.host() == counts);
  return {offsets.host(), row_token.host(), slot_of.host()};
}

void check_routing(const Indices& experts, int k, int num_experts) {
  INFO(experts.size() << " pairs, k " << k << ", " << num_experts << " experts");
  const Routed with = route(experts, k, num_experts, counts_of(experts, k, num_experts)),
               without = route(experts, k, num_experts, {});
  REQUIRE(with.offsets == without.offsets);
  REQUIRE(with.slot_of == without.slot_of);
  REQUIRE(with.row_token == without.row_token);
}

}  // namespace

TEST_CASE("token_pieces holds all tokens in at most 1024 pieces", "[topk_gate][routing_index]") {
  for (int tokens : {0, 1, 15, 16, 17, 16383, 16384, 16385, 65536, 1000003, 2147483647}) {
    const TokenPieces p = token_pieces(tokens);
    CHECK(p.each % TokenPieces::kUnit == 0);
    CHECK(p.count >= 1);
    CHECK(p.count <= TokenPieces::kMost);
    CHECK(int64_t{p.each} * p.count >= tokens);
    CHECK(int64_t{p.each} * (p.count - 1) <= std::max(tokens - 1, 0));
  }
  CHECK(token_pieces(16384).each == 16);
  CHECK(token_pieces(16385).each == 32);
}

TEMPLATE_TEST_CASE("cuda: topk_gate counts its choices", "[cuda][topk_gate]", float, Bf16) {
  for (const Gate& g : {Gate{0, 8, 2},
                        {1, 1, 1},
                        {37, 1, 1},
                        {16, 8, 2},
                        {35, 13, 13},
                        {17, 64, 8},
                        {18, 40, 20},
                        {33, 128, 3},
                        {18, 200, 9},
                        {17, 300, 4},
                        {5, 1000, 33},
                        {17, 1030, 2},
                        {0, 1030, 2},
                        {17, 64, 4, {8, 3}},
                        {17, 12, 3, {4, 2}},
                        {17, 8, 2, {}, 0.25}})
    check_gate<TestType>(g);
}

TEST_CASE("cuda: topk_gate counts its choices in float64", "[cuda][topk_gate]") {
  check_gate<double>({18, 12, 3});
  check_gate<double>({0, 12, 3});
}

TEST_CASE("cuda: topk_gate counts tied and one-sided choices once", "[cuda][topk_gate]") {
  for (const Gate& g : {Gate{35, 8, 2}, {18, 70, 9}, {17, 256, 1}}) {
    std::vector<double> logits(size_t(g.tokens) * size_t(g.num_experts), 1.5);
    check_gate<float>(g, logits);
    for (size_t t = 0; t < size_t(g.tokens); ++t) logits[t * size_t(g.num_experts) + 5] = 9;
    check_gate<float>(g, logits);
  }
}

TEST_CASE("cuda: topk_gate counts pieces of 32 tokens", "[cuda][topk_gate]") {
  check_gate<float>({16384 + 49, 2, 1});
}

TEST_CASE("cuda: routing_index takes the gate's counts", "[cuda][routing_index]") {
  unsigned seed = 20;
  for (int tokens : {0, 1, 15, 16, 17, 700})
    for (int num_experts : {1, 7, 130})
      for (int k : {1, 3})
        check_routing(integers<int32_t>(size_t(tokens) * size_t(k), ++seed, 0, num_experts), k,
                      num_experts);
  check_routing(integers<int32_t>(40, 1, 0, 4096), 2, 4096);
  for (int32_t favourite : {0, 4, 8}) check_routing(Indices(260, favourite), 2, 9);
  check_routing(integers<int32_t>(16384 + 49, 2, 0, 5), 1, 5);  // pieces of 32 tokens
}

TEST_CASE("cuda: routing_index does not read counts where a pair may be dropped",
          "[cuda][routing_index]") {
  const auto experts = integers<int32_t>(200, 9, 0, 5);
  const Indices nonsense(size_t(token_pieces(100).count) * 5, -3);
  CHECK(route(experts, 2, 5, nonsense, 20) == route(experts, 2, 5, {}, 20));
}

TEST_CASE("cuda: routing_index with wrong counts stays within its outputs",
          "[cuda][routing_index]") {
  const auto experts = integers<int32_t>(200, 9, 0, 5);
  for (int32_t count : {-1000, 1000000})
    CHECK_NOTHROW(route(experts, 2, 5, Indices(size_t(token_pieces(100).count) * 5, count)));
}

TEST_CASE("cuda: the gate's counts route its choices", "[cuda][topk_gate][routing_index]") {
  const Gate g{83, 13, 3};
  const Chosen chosen =
      gate<float>(g, normals(size_t(g.tokens) * size_t(g.num_experts), 4), Counts::wanted);
  CHECK(route(chosen.experts, g.k, g.num_experts, chosen.counts) ==
        route(chosen.experts, g.k, g.num_experts, {}));
}

}  // namespace moat::tests
