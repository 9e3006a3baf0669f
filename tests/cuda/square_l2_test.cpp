#include "tests/cuda/device_memory.h"
#include "tests/square_case.h"

namespace moat::tests {

using namespace kernels;

namespace {

std::vector<float> on_device(const SquareScene& s) {
  const DeviceArray<float> best(s.best), center(s.center), bump(s.bump), y(s.points());
  const DeviceArray<int32_t> rows(s.rows), ids(s.ids);
  auto a = s.args<SquareL2>();
  a.best = best.data();
  a.center = center.data();
  a.bump = bump.data();
  a.rows = rows.data();
  a.ids = ids.data();
  a.y = y.data();
  REQUIRE(run<SquareL2>(square_l2, a) == Status::ok);
  return y.host();
}

void check(const std::vector<float>& got, const SquareScene& s) {
  const std::vector<double> want = l2_reference(s);
  REQUIRE(got.size() == want.size());
  for (size_t i = 0; i < got.size(); ++i)  // a float32 of at most 1 + eps, and a delta's rounding
    REQUIRE(double(got[i]) == Approx(want[i]).margin(2e-7));
}

}  // namespace

TEST_CASE("cuda: square_l2 equals plain loops", "[cuda][square_l2]") {
  for (const SquareScene& s : square_scenes()) {
    INFO(s.height << "x" << s.width << "x" << s.channels << ", side " << s.side);
    const std::vector<float> got = on_device(s);
    check(got, s);
    REQUIRE(on_device(s) == got);
  }
}

// A sum must not depend on what else is in the batch.
TEST_CASE("cuda: square_l2 of an image alone", "[cuda][square_l2]") {
  SquareScene s = square_scene(5, 6, 9, 3, 4, {4, 0, 2});
  const std::vector<float> got = on_device(s);
  s.rows = {0};
  s.ids = {s.ids[1]};
  const std::vector<float> alone = on_device(s);
  CHECK(std::equal(alone.begin(), alone.end(), got.begin() + long(s.values())));
}

TEST_CASE("cuda: square_l2 of rows that do not exist", "[cuda][square_l2]") {
  SquareScene s = square_scene(3, 4, 6, 3, 3, {-1, 1, 3});
  const std::vector<float> got = on_device(s);
  s.rows = {0, 1, 2};
  check(got, s);
}

TEST_CASE("cuda: square_l2 refuses bad arguments before any launch", "[cuda][square_l2]") {
  CHECK(square_l2(Cuda{}, {.n = -1}) == Status::bad_args);
  CHECK(square_l2(Cuda{}, {.n = 1, .images = 0}) == Status::bad_args);
  CHECK(square_l2(Cuda{}, {.height = 2, .width = 1, .side = 2}) == Status::bad_args);
  CHECK(square_l2(Cuda{}, {.eps = -1}) == Status::bad_args);
  CHECK(square_l2(Cuda{}, {.key = {.stream = 1 << 24}}) == Status::bad_args);
}

}  // namespace moat::tests
