#include "tests/apgd_progress_case.h"
#include "tests/cuda/device_memory.h"

namespace moat::tests {

using namespace kernels;

namespace {

// Images start `offset` values after a multiple of 256 bytes.
ProgressState on_device(const Look& look, int window, const ProgressState& s, size_t offset) {
  const ShiftedArray<float> points(look.points, offset), gradient(look.gradient, offset),
      best_points(s.best_points, offset), best_gradient(s.best_gradient, offset);
  const DeviceArray<float> loss(look.loss), best_loss(s.best_loss), last_loss(s.last_loss),
      checked_loss(s.checked_loss);
  const DeviceArray<int32_t> rises(s.rises), halved(s.halved);
  const DeviceArray<double> step(s.step);
  ApgdProgress a = s.args(window);
  a.loss = loss.data();
  a.points = points.data();
  a.gradient = gradient.data();
  a.best_points = best_points.data();
  a.best_gradient = best_gradient.data();
  a.best_loss = best_loss.data();
  a.last_loss = last_loss.data();
  a.checked_loss = checked_loss.data();
  a.rises = rises.data();
  a.halved = halved.data();
  a.step = step.data();
  REQUIRE(run<ApgdProgress>(apgd_progress, a) == Status::ok);
  return {s.images,         s.pixels,           points.host(),
          gradient.host(),  best_points.host(), best_gradient.host(),
          best_loss.host(), last_loss.host(),   checked_loss.host(),
          rises.host(),     halved.host(),      step.host()};
}

}  // namespace

TEST_CASE("cuda: apgd_progress equals plain loops over several looks", "[cuda][apgd_progress]") {
  for (const auto& [images, pixels] :
       {std::pair<size_t, size_t>{9, 3}, {14, 64}, {3, 1300}, {2, 0}, {0, 4}})
    for (size_t offset : {0u, 1u})
      check_progress(images, pixels, [&](const Look& look, int window, const ProgressState& s) {
        return on_device(look, window, s, offset);
      });
}

TEST_CASE("cuda: apgd_progress refuses bad arguments before any launch", "[cuda][apgd_progress]") {
  CHECK(apgd_progress(Cuda{}, {.n = -1}) == Status::bad_args);
  CHECK(apgd_progress(Cuda{}, {.pixels = -1}) == Status::bad_args);
  CHECK(apgd_progress(Cuda{}, {.window = -1}) == Status::bad_args);
  CHECK(apgd_progress(Cuda{}, {.rho = std::nan("")}) == Status::bad_args);
}

}  // namespace moat::tests
