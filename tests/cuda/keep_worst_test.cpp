#include "tests/cuda/device_memory.h"
#include "tests/keep_worst_case.h"

namespace moat::tests {

using namespace kernels;

namespace {

// Points and worst start `offset` values after a multiple of 256 bytes.
WorstState on_device(const Iterate& in, const WorstState& s, size_t offset = 0) {
  const DeviceArray<float> points(shifted(in.points, offset)), loss(in.loss),
      best_loss(s.best_loss), worst(shifted(s.worst, offset));
  const DeviceArray<int32_t> rows(in.rows), predicted(in.predicted), labels(in.labels),
      fooled_at(s.fooled_at), resisting(1);
  KeepWorst a = in.args();
  a.points = points.data() + offset;
  a.rows = rows.data();
  a.predicted = predicted.data();
  a.loss = loss.data();
  a.labels = labels.data();
  a.fooled_at = fooled_at.data();
  a.best_loss = best_loss.data();
  a.worst = worst.data() + offset;
  a.resisting = resisting.data();
  REQUIRE(run<KeepWorst>(keep_worst, a) == Status::ok);
  std::vector<float> kept = worst.host();
  kept.erase(kept.begin(), kept.begin() + static_cast<int64_t>(offset));
  return {fooled_at.host(), best_loss.host(), kept, resisting.host()[0]};
}

}  // namespace

TEST_CASE("cuda: keep_worst equals plain loops over several iterates", "[cuda][keep_worst]") {
  for (const auto& [images, pixels] :
       {std::pair<size_t, size_t>{9, 3}, {6, 1300}, {3, 4500}, {1, 0}, {0, 4}})
    for (size_t offset : {0u, 1u}) {
      INFO(images << " images of " << pixels << " pixels, offset " << offset);
      WorstState want = WorstState::of(images, pixels), got = want;
      for (unsigned iterate = 0; iterate < 4; ++iterate) {
        const Iterate in = random_iterate(images, pixels, iterate);
        look(in, want);
        got = on_device(in, got, offset);
        REQUIRE(got == want);
      }
    }
}

TEST_CASE("cuda: keep_worst of NaN losses and rows that do not exist", "[cuda][keep_worst]") {
  const float nan = std::nanf("");
  const Iterate in{.pixels = 1,
                   .points = {10, 20, 30, 40, 50},
                   .loss = {nan, 3, 3, nan, 2},
                   .rows = {0, -1, 3, 1, 2},
                   .predicted = {5, 6, 6, 6, 5},
                   .labels = {5, 5, 5},
                   .number = 3};
  const WorstState s = on_device(in, WorstState::of(3, 1));
  CHECK(s.fooled_at == std::vector<int32_t>{-1, 3, -1});
  CHECK(s.worst == std::vector<float>{-1, 40, 50});
  CHECK(std::isinf(s.best_loss[0]));
  CHECK(std::isnan(s.best_loss[1]));
  CHECK(s.best_loss[2] == 2);
  CHECK(s.resisting == 2);
}

TEST_CASE("cuda: keep_worst refuses bad arguments before any launch", "[cuda][keep_worst]") {
  CHECK(keep_worst(Cuda{}, {.n = -1}) == Status::bad_args);
  CHECK(keep_worst(Cuda{}, {.images = -1}) == Status::bad_args);
  CHECK(keep_worst(Cuda{}, {.pixels = -1}) == Status::bad_args);
  CHECK(keep_worst(Cuda{}, {.number = -1}) == Status::bad_args);
}

}  // namespace moat::tests
