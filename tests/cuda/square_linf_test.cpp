#include "tests/cuda/device_memory.h"
#include "tests/square_case.h"

namespace moat::tests {

using namespace kernels;

namespace {

std::vector<float> on_device(const SquareScene& s, size_t best_shift = 0, size_t y_shift = 0) {
  const ShiftedArray<float> best(s.best, best_shift), y(s.points(), y_shift);
  const DeviceArray<float> low(s.low), high(s.high);
  const DeviceArray<int32_t> rows(s.rows), ids(s.ids);
  auto a = s.args<SquareLinf>();
  a.best = best.data();
  a.low = low.data();
  a.high = high.data();
  a.rows = rows.data();
  a.ids = ids.data();
  a.y = y.data();
  REQUIRE(run<SquareLinf>(square_linf, a) == Status::ok);
  return y.host();
}

}  // namespace

TEST_CASE("cuda: square_linf equals plain loops", "[cuda][square_linf]") {
  for (const SquareScene& s : square_scenes()) {
    INFO(s.height << "x" << s.width << "x" << s.channels << ", side " << s.side);
    const std::vector<float> want = linf_reference(s);
    REQUIRE(on_device(s) == want);
    REQUIRE(on_device(s, 1, 0) == want);
    REQUIRE(on_device(s, 0, 1) == want);
  }
}

TEST_CASE("cuda: square_linf of rows that do not exist", "[cuda][square_linf]") {
  SquareScene s = square_scene(3, 4, 6, 3, 3, {-1, 1, 3});
  const std::vector<float> got = on_device(s);
  s.rows = {0, 1, 2};
  CHECK(got == linf_reference(s));
}

TEST_CASE("cuda: square_linf refuses bad arguments before any launch", "[cuda][square_linf]") {
  CHECK(square_linf(Cuda{}, {.n = -1}) == Status::bad_args);
  CHECK(square_linf(Cuda{}, {.n = 1, .images = 0}) == Status::bad_args);
  CHECK(square_linf(Cuda{}, {.height = 2, .width = 1, .side = 2}) == Status::bad_args);
  CHECK(square_linf(Cuda{}, {.key = {.purpose = 1 << 8}}) == Status::bad_args);
}

}  // namespace moat::tests
