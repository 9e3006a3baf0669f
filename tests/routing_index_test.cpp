#include "kernels/routing/routing_index.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <limits>
#include <numeric>

#include "engine/ops/moe.h"
#include "engine/ops/reduce.h"
#include "engine/ops/routing.h"
#include "engine/tape.h"
#include "tests/op_case.h"

namespace moat::tests {

using kernels::Cpu;
using kernels::RoutingIndex;
using kernels::Status;

namespace {

struct Routed {
  Status status;
  std::vector<int32_t> offsets, row_token, slot_of;
};

Routed route(const std::vector<int32_t>& experts, int k, int num_experts, int capacity,
             const std::vector<float>& priority = {}) {
  Routed out{.status = {},
             .offsets = std::vector<int32_t>(size_t(num_experts) + 1, 77),
             .row_token = std::vector<int32_t>(experts.size(), 77),
             .slot_of = std::vector<int32_t>(experts.size(), 77)};
  const RoutingIndex args{.experts = experts.data(),
                          .priority = priority.empty() ? nullptr : priority.data(),
                          .offsets = out.offsets.data(),
                          .row_token = out.row_token.data(),
                          .slot_of = out.slot_of.data(),
                          .tokens = static_cast<int>(experts.size()) / k,
                          .k = k,
                          .num_experts = num_experts,
                          .capacity = capacity,
                          .priority_dtype = kernels::Dtype::f32};
  std::vector<char> scratch(routing_index_workspace(Cpu{}, args));
  const Cpu on{.workspace = scratch.data(), .workspace_bytes = scratch.size()};
  out.status = routing_index(on, args);
  return out;
}

// By the definition: walk choices, then tokens by priority, and seat each pair that finds room.
Routed by_definition(const std::vector<int32_t>& experts, int k, int num_experts, int capacity,
                     const std::vector<float>& priority) {
  const size_t tokens = experts.size() / size_t(k);
  std::vector<size_t> order(tokens);
  std::iota(order.begin(), order.end(), size_t{0});
  if (!priority.empty())
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return priority[a] > priority[b]; });
  std::vector<std::vector<size_t>> seated(static_cast<size_t>(num_experts));
  for (size_t choice = 0; choice < size_t(k); ++choice)
    for (size_t token : order) {
      auto& room = seated[size_t(experts[token * size_t(k) + choice])];
      if (capacity == 0 || room.size() < size_t(capacity))
        room.push_back(token * size_t(k) + choice);
    }
  Routed out{.status = Status::ok,
             .offsets = {0},
             .row_token = {},
             .slot_of = std::vector<int32_t>(experts.size(), -1)};
  for (auto& pairs : seated) {
    std::sort(pairs.begin(), pairs.end());
    for (size_t pair : pairs) {
      out.slot_of[pair] = static_cast<int32_t>(out.row_token.size());
      out.row_token.push_back(static_cast<int32_t>(pair / size_t(k)));
    }
    out.offsets.push_back(static_cast<int32_t>(out.row_token.size()));
  }
  out.row_token.resize(experts.size(), -1);
  return out;
}

}  // namespace

TEST_CASE("routing: a stable sort with both directions", "[routing]") {
  const Routed r = route({2, 0, 2, 1, 0, 2}, 1, 4, 0);
  CHECK(r.offsets == std::vector<int32_t>{0, 2, 3, 6, 6});
  CHECK(r.row_token == std::vector<int32_t>{1, 4, 3, 0, 2, 5});
  CHECK(r.slot_of == std::vector<int32_t>{3, 0, 4, 2, 1, 5});
}

TEST_CASE("routing: V-MoE's worked example of batch prioritised routing", "[routing]") {
  // Weights [.5 .3 .2] [.6 .3 .1] [.9 .05 .05] [.4 .35 .25], two choices, room for two.
  const std::vector<int32_t> experts{0, 1, 0, 1, 0, 1, 0, 1};
  const Routed plain = route(experts, 2, 3, 2);
  CHECK(plain.row_token == std::vector<int32_t>{0, 1, 0, 1, -1, -1, -1, -1});
  CHECK(plain.slot_of == std::vector<int32_t>{0, 2, 1, 3, -1, -1, -1, -1});
  const Routed prioritised = route(experts, 2, 3, 2, {.5f, .6f, .9f, .4f});
  CHECK(prioritised.slot_of == std::vector<int32_t>{-1, -1, 0, 2, 1, 3, -1, -1});
  CHECK(prioritised.offsets == std::vector<int32_t>{0, 2, 4, 4});
}

TEST_CASE("routing: first choices are placed before second ones", "[routing]") {
  const Routed r = route({1, 0, 0, 1}, 2, 2, 1);  // token 0: 1 then 0; token 1: 0 then 1
  CHECK(r.slot_of == std::vector<int32_t>{1, -1, 0, -1});
}

TEST_CASE("routing: equal priorities go to the lower token, NaN last", "[routing]") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  CHECK(route({0, 0, 0, 0}, 1, 1, 2, {nan, 1, 1, 1}).slot_of == std::vector<int32_t>{-1, 0, 1, -1});
  CHECK(route({0, 0}, 1, 1, 1, {nan, nan}).slot_of == std::vector<int32_t>{0, -1});
}

TEST_CASE("routing equals its definition for many shapes", "[routing]") {
  uint32_t stream = 0;
  for (int tokens : {0, 1, 3, 64, 501})
    for (int num_experts : {1, 2, 7, 130})
      for (int k : {1, 2, 3})
        for (int capacity : {0, 1, 5}) {
          const auto experts =
              rand_ints({int64_t{tokens} * k}, 0, num_experts, ++stream).to_vector<int32_t>();
          std::vector<float> priority;
          if (stream % 2)
            for (int32_t v : rand_ints({tokens}, 0, 10, stream).to_vector<int32_t>())
              priority.push_back(static_cast<float>(v));
          const Routed got = route(experts, k, num_experts, capacity, priority);
          const Routed want = by_definition(experts, k, num_experts, capacity, priority);
          INFO(tokens << " tokens, " << num_experts << " experts, k " << k << ", capacity "
                      << capacity);
          REQUIRE(got.status == Status::ok);
          REQUIRE(got.offsets == want.offsets);
          REQUIRE(got.row_token == want.row_token);
          REQUIRE(got.slot_of == want.slot_of);
        }
}

TEST_CASE("routing refuses what it cannot sort", "[routing]") {
  CHECK(route({0, 3}, 1, 3, 0).status == Status::bad_args);
  CHECK(route({0, -1}, 1, 3, 0).status == Status::bad_args);
  CHECK(route({0, 0}, 1, 3, -1).status == Status::bad_args);
  CHECK_THROWS_WITH(engine::sort_by_expert(engine::Tensor::from<int32_t>({0, 5}, {2}), 5),
                    "sort_by_expert: experts must be in [0, 5), got 5 in row 1");
}

TEST_CASE("combine_rows: no gradient is computed that nobody asked for", "[routing]") {
  using namespace engine;
  const Routing routing = route_tokens(Tensor::from(std::vector<int32_t>{1, 0, 1}, {3, 1}), 2);
  const Tensor rows = randn({3, 4}, 1).to(Dtype::f32), weights = randn({3, 1}, 2).to(Dtype::f32);
  Tape tape;
  const Tensor watched = tape.watch(rows);
  const Gradients gradients = tape.gradients(sum(combine_rows(watched, weights, routing)));
  CHECK(gradients.of(watched).defined());
  CHECK_FALSE(gradients.of(weights).defined());
}

TEST_CASE("dispatch_rows, combine_rows: what does not fit is one line", "[routing]") {
  using namespace engine;
  const auto experts = Tensor::from(std::vector<int32_t>{1, 0, 1, 0}, {2, 2});
  const Routing routing = route_tokens(experts, 2);
  const Tensor x = randn({2, 4}, 1), rows = randn({4, 4}, 1), weights = randn({2, 2}, 2);
  CHECK_THROWS_WITH(route_tokens(experts.reshaped({4}), 2), Catch::Contains("int32 [tokens, k]"));
  CHECK_THROWS_WITH(route_tokens(experts, 0), Catch::Contains("an expert or more"));
  CHECK_THROWS_WITH(route_tokens(experts, 1), Catch::Contains("[0, 1), got 1 in row 0"));
  CHECK_THROWS_WITH(route_tokens(experts, 2, {.capacity = -1}), Catch::Contains("-1"));
  CHECK_THROWS_WITH(route_tokens(experts, 2, {.capacity = 1, .priority = weights}),
                    Catch::Contains("priority must be floating [2]"));
  CHECK_THROWS_WITH(dispatch_rows(rows, routing), Catch::Contains("x must be floating [2, width]"));
  CHECK_THROWS_WITH(dispatch_rows(x, {}), Catch::Contains("route_tokens() makes one"));
  CHECK_THROWS_WITH(combine_rows(x, weights, routing), Catch::Contains("floating [4, width]"));
  CHECK_THROWS_WITH(combine_rows(rows, x, routing), Catch::Contains("weights must be float64"));
  CHECK_THROWS_WITH(combine_rows(rows.to(Dtype::f32), weights, routing),
                    Catch::Contains("weights must be float32"));
}

}  // namespace moat::tests
