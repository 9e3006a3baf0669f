#include <catch2/catch.hpp>

#include "tests/keep_worst_case.h"

namespace moat::tests {

using namespace kernels;

namespace {

Status on_cpu(const Iterate& in, WorstState& s) {
  KeepWorst a = in.args();
  a.points = in.points.data();
  a.rows = in.rows.data();
  a.predicted = in.predicted.data();
  a.loss = in.loss.data();
  a.labels = in.labels.data();
  a.fooled_at = s.fooled_at.data();
  a.best_loss = s.best_loss.data();
  a.worst = s.worst.data();
  a.resisting = &s.resisting;
  return keep_worst(Cpu{}, a);
}

}  // namespace

TEST_CASE("keep_worst equals plain loops over several iterates", "[keep_worst]") {
  for (const auto& [images, pixels] :
       {std::pair<size_t, size_t>{7, 3}, {40, 5000}, {1, 0}, {0, 4}}) {
    INFO(images << " images of " << pixels << " pixels");
    WorstState want = WorstState::of(images, pixels), got = want;
    for (unsigned iterate = 0; iterate < 5; ++iterate) {
      const Iterate in = random_iterate(images, pixels, iterate);
      look(in, want);
      REQUIRE(on_cpu(in, got) == Status::ok);
      REQUIRE(got == want);
    }
  }
}

TEST_CASE("keep_worst: a NaN loss replaces nothing unless it fools; what is fooled stays",
          "[keep_worst]") {
  const float nan = std::nanf("");
  WorstState s = WorstState::of(3, 1);
  const Iterate first{.pixels = 1,
                      .points = {10, 20, 30},
                      .loss = {nan, nan, 2},
                      .rows = {0, 1, 2},
                      .predicted = {5, 6, 5},
                      .labels = {5, 5, 5},
                      .number = 3};
  REQUIRE(on_cpu(first, s) == Status::ok);
  CHECK(s.fooled_at == std::vector<int32_t>{-1, 3, -1});
  CHECK(s.worst == std::vector<float>{-1, 20, 30});
  CHECK(std::isinf(s.best_loss[0]));
  CHECK(std::isnan(s.best_loss[1]));
  CHECK(s.resisting == 2);

  Iterate second = first;
  second.points = {11, 21, 31};
  second.loss = {-1, 9, 2};  // an equal loss replaces nothing either
  second.number = 4;
  REQUIRE(on_cpu(second, s) == Status::ok);
  CHECK(s.fooled_at == std::vector<int32_t>{-1, 3, -1});
  CHECK(s.worst == std::vector<float>{11, 20, 30});
  CHECK(s.resisting == 2);
}

TEST_CASE("keep_worst refuses what is outside its contract", "[keep_worst]") {
  const WorstState before = WorstState::of(7, 2);
  for (int32_t row : {-1, 7}) {
    WorstState s = before;
    Iterate in = random_iterate(7, 2, 1);
    in.rows.back() = row;
    CHECK(on_cpu(in, s) == Status::bad_args);
    CHECK(s == before);
  }
  KeepWorst n{}, images{}, pixels{}, number{};
  n.n = images.images = number.number = -1;
  pixels.pixels = -1;
  for (const KeepWorst& bad : {n, images, pixels, number})
    CHECK(keep_worst(Cpu{}, bad) == Status::bad_args);
}

}  // namespace moat::tests
