#include <catch2/catch.hpp>

#include "tests/op_case.h"

using namespace moat::tests;

namespace {
void check_all(const std::vector<OpCase>& cases) {
  CHECK_FALSE(cases.empty());
  for (const OpCase& c : cases) {
    INFO(c.name);
    check_op(c);
  }
}
}  // namespace

TEST_CASE("ops: elementwise") { check_all(elementwise_cases(Scale::test)); }
TEST_CASE("ops: shape") { check_all(shape_cases(Scale::test)); }
TEST_CASE("ops: reduce") { check_all(reduce_cases(Scale::test)); }
TEST_CASE("ops: linalg") { check_all(linalg_cases(Scale::test)); }
TEST_CASE("ops: vision") { check_all(vision_cases(Scale::test)); }
TEST_CASE("ops: norm") { check_all(norm_cases(Scale::test)); }
TEST_CASE("ops: attention") { check_all(attention_cases(Scale::test)); }
TEST_CASE("ops: loss") { check_all(loss_cases(Scale::test)); }
TEST_CASE("ops: moe") { check_all(moe_cases(Scale::test)); }
TEST_CASE("ops: routing") { check_all(routing_cases(Scale::test)); }
TEST_CASE("ops: ball") { check_all(ball_cases(Scale::test)); }
