#include "kernels/routing/routing_index.h"

#include <algorithm>
#include <limits>

#include "tests/cuda/device_memory.h"
#include "tests/random_values.h"

namespace moat::tests {

using namespace kernels;

namespace {

struct Routed {
  std::vector<int32_t> offsets, row_token, slot_of;
  bool operator==(const Routed&) const = default;
};

struct Batch {
  std::vector<int32_t> experts;
  int k = 1, num_experts = 1, capacity = 0;

  // What is still missing are the pointers.
  template <class T>
  RoutingIndex args(const std::vector<T>& priority) const {
    RoutingIndex a{};
    a.tokens = static_cast<int>(experts.size()) / k;
    a.k = k;
    a.num_experts = num_experts;
    a.capacity = capacity;
    a.priority_dtype = dtype_of<T>;
    REQUIRE((priority.empty() || priority.size() == size_t(a.tokens)));
    return a;
  }
};

template <class T = float>
Routed on_device(const Batch& batch, const std::vector<T>& priority = {}) {
  // Poison reads as -1, which a result may be.
  const std::vector<int32_t> unwritten(batch.experts.size(), 77);
  const DeviceArray<int32_t> experts(batch.experts), offsets(size_t(batch.num_experts) + 1),
      row_token(unwritten), slot_of(unwritten);
  const DeviceArray<T> priorities(priority);
  RoutingIndex a = batch.args(priority);
  a.experts = experts.data();
  a.priority = priority.empty() ? nullptr : priorities.data();
  a.offsets = offsets.data();
  a.row_token = row_token.data();
  a.slot_of = slot_of.data();
  REQUIRE(run<RoutingIndex>(routing_index, a, routing_index_workspace(Cuda{}, a)) == Status::ok);
  return {offsets.host(), row_token.host(), slot_of.host()};
}

template <class T = float>
Routed on_cpu(const Batch& batch, const std::vector<T>& priority = {}) {
  Routed out{.offsets = std::vector<int32_t>(size_t(batch.num_experts) + 1),
             .row_token = std::vector<int32_t>(batch.experts.size()),
             .slot_of = std::vector<int32_t>(batch.experts.size())};
  RoutingIndex a = batch.args(priority);
  a.experts = batch.experts.data();
  a.priority = priority.empty() ? nullptr : priority.data();
  a.offsets = out.offsets.data();
  a.row_token = out.row_token.data();
  a.slot_of = out.slot_of.data();
  std::vector<char> scratch(routing_index_workspace(Cpu{}, a));
  REQUIRE(routing_index(Cpu{.workspace = scratch.data(), .workspace_bytes = scratch.size()}, a) ==
          Status::ok);
  return out;
}

template <class T = float>
void check(const Batch& batch, const std::vector<T>& priority = {}) {
  INFO(batch.experts.size() << " pairs, k " << batch.k << ", " << batch.num_experts
                            << " experts, capacity " << batch.capacity << ", " << priority.size()
                            << " priorities");
  const Routed want = on_cpu(batch, priority), got = on_device(batch, priority);
  REQUIRE(got.offsets == want.offsets);
  REQUIRE(got.slot_of == want.slot_of);
  REQUIRE(got.row_token == want.row_token);
}

}  // namespace

TEST_CASE("cuda: routing_index equals the CPU for ragged shapes", "[cuda][routing_index]") {
  unsigned seed = 0;
  for (int tokens : {0, 1, 31, 33, 501})
    for (int num_experts : {1, 7, 130})
      for (int k : {1, 3})
        for (int capacity : {0, 5})
          check({.experts = integers<int32_t>(size_t(tokens) * size_t(k), ++seed, 0, num_experts),
                 .k = k,
                 .num_experts = num_experts,
                 .capacity = capacity});
}

TEST_CASE("cuda: routing_index over many blocks", "[cuda][routing_index]") {
  check({.experts = integers<int32_t>(9002, 1, 0, 5), .k = 2, .num_experts = 5});
  check({.experts = integers<int32_t>(9002, 2, 0, 5), .k = 2, .num_experts = 5, .capacity = 700});
  check({.experts = integers<int32_t>(20001, 4, 0, 3), .k = 3, .num_experts = 3});  // 40 pieces
  check({.experts = integers<int32_t>(2300, 3, 0, 4096), .k = 1, .num_experts = 4096});
}

// Takes seconds in the interpreter: run by its own tag.
TEST_CASE("cuda: routing_index with more pairs than the fewest in each piece", "[.large]") {
  check({.experts = integers<int32_t>(600001, 5, 0, 3), .k = 1, .num_experts = 3});
}

TEST_CASE("cuda: routing_index with one expert for all and experts without tokens",
          "[cuda][routing_index]") {
  for (int32_t favourite : {0, 4, 8})
    for (int capacity : {0, 1, 100, 259, 260}) {
      check({.experts = std::vector<int32_t>(260, favourite),
             .k = 2,
             .num_experts = 9,
             .capacity = capacity});
    }
}

TEMPLATE_TEST_CASE("cuda: routing_index drops by choice, then priority, then token",
                   "[cuda][routing_index]", double, float, Bf16) {
  using T = TestType;
  unsigned seed = 10;
  for (int tokens : {1, 700})
    for (int capacity : {1, 90}) {
      const Batch batch{.experts = integers<int32_t>(size_t(tokens) * 2, ++seed, 0, 6),
                        .k = 2,
                        .num_experts = 6,
                        .capacity = capacity};
      check(batch, rounded<T>(normals(size_t(tokens), seed)));
      check(batch, rounded<T>(integers<double>(size_t(tokens), seed, -2, 3)));  // many ties
    }
}

TEST_CASE("cuda: routing_index with infinite, signed zero and NaN priorities",
          "[cuda][routing_index]") {
  const float inf = std::numeric_limits<float>::infinity(),
              nan = std::numeric_limits<float>::quiet_NaN(), tiny = 1e-45f;
  const std::vector<float> priority{nan,    -0.f, 0.f,   inf,  -inf, -nan,
                                    1e-30f, tiny, -tiny, -0.f, inf};
  for (int capacity : {1, 2, 5, 6, 8, 9})
    check({.experts = std::vector<int32_t>(11, 0), .num_experts = 1, .capacity = capacity},
          priority);
}

TEST_CASE("cuda: routing_index drops a pair whose expert does not exist", "[cuda][routing_index]") {
  for (int capacity : {0, 2}) {
    const Routed r = on_device({.experts = {1, -1, 0, 1, 7, 0, 2, 1 << 30},
                                .k = 2,
                                .num_experts = 2,
                                .capacity = capacity});
    CHECK(r.offsets == std::vector<int32_t>{0, 2, 4});
    CHECK(r.row_token == std::vector<int32_t>{1, 2, 0, 1, -1, -1, -1, -1});
    CHECK(r.slot_of == std::vector<int32_t>{2, -1, 0, 3, -1, 1, -1, -1});
  }
}

TEST_CASE("cuda: routing_index gives the same twice", "[cuda][routing_index]") {
  const Batch batch{
      .experts = integers<int32_t>(1200, 5, 0, 7), .k = 2, .num_experts = 7, .capacity = 50};
  const std::vector<float> priority = integers<float>(600, 6, 0, 20);
  CHECK(on_device(batch, priority) == on_device(batch, priority));
}

TEST_CASE("cuda: routing_index refuses bad arguments before any launch", "[cuda][routing_index]") {
  const RoutingIndex good{.tokens = 4, .k = 2, .num_experts = 3, .capacity = 0};
  const auto status_of = [](const RoutingIndex& a, size_t bytes = size_t{1} << 20) {
    return routing_index(Cuda{.workspace_bytes = bytes}, a);
  };
  const auto changed = [&](auto change) {
    RoutingIndex a = good;
    change(a);
    return a;
  };
  using R = RoutingIndex;
  CHECK(status_of(changed([](R& a) { a.tokens = -1; })) == Status::bad_args);
  CHECK(status_of(changed([](R& a) { a.k = 0; })) == Status::bad_args);
  CHECK(status_of(changed([](R& a) { a.num_experts = 0; })) == Status::bad_args);
  CHECK(status_of(changed([](R& a) { a.capacity = -1; })) == Status::bad_args);
  CHECK(status_of(changed([](R& a) { a.tokens = 1 << 30; })) == Status::bad_args);
  CHECK(status_of(changed([](R& a) { a.num_experts = 1 << 20; })) == Status::unsupported);
  const float priority = 0;
  CHECK(status_of(changed([&](R& a) {
          a.priority = &priority;
          a.priority_dtype = Dtype::i32;
        })) == Status::unsupported);
  CHECK(status_of(good, routing_index_workspace(Cuda{}, good) - 1) == Status::small_workspace);
}

}  // namespace moat::tests
