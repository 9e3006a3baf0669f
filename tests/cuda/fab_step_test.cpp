#include "kernels/update/fab_step.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/cuda/device_memory.h"
#include "tests/random_values.h"

namespace moat::tests {

using namespace kernels;

namespace {

template <class T>
struct Images {
  int images, pixels;
  std::vector<T> x, center, gradient, difference;
};

// Pixels on the walls, gradients that count as 0, and differences that the box has no room for.
template <class T>
Images<T> random_images(int images, int pixels, unsigned seed) {
  const size_t count = size_t(images) * size_t(pixels);
  std::vector<double> x = normals(count, seed, 0.4), center = normals(count, seed + 1, 0.4),
                      w = normals(count, seed + 2),
                      difference = normals(size_t(images), seed + 3, 0.2 * pixels);
  if (images > 0) difference[0] *= 0.01;  // x nearly on the plane
  for (size_t i = 0; i < count; ++i) {
    x[i] = std::clamp(0.5 + x[i], 0.0, 1.0);
    center[i] = std::clamp(0.5 + center[i], 0.0, 1.0);
    if (i % 5 == 0) w[i] = i % 2 ? 0 : 5e-9;
  }
  return {.images = images,
          .pixels = pixels,
          .x = rounded<T>(x),
          .center = rounded<T>(center),
          .gradient = rounded<T>(w),
          .difference = rounded<T>(difference)};
}

// What both targets are given; the pointers are theirs.
template <class T>
FabStep args_of(const Images<T>& in, Norm norm) {
  FabStep a{};
  a.images = in.images;
  a.pixels = in.pixels;
  a.norm = norm;
  a.pull = 0.1;
  a.overshoot = 1.05;
  a.dtype = dtype_of<T>;
  return a;
}

template <class T>
std::vector<T> on_cpu(const Images<T>& in, Norm norm) {
  std::vector<T> y(in.x.size());
  FabStep a = args_of(in, norm);
  a.x = in.x.data();
  a.center = in.center.data();
  a.gradient = in.gradient.data();
  a.difference = in.difference.data();
  a.y = y.data();
  REQUIRE(fab_step(Cpu{}, a) == Status::ok);
  return y;
}

// Arrays start `shift` values behind an aligned address.
template <class T>
std::vector<T> on_device(const Images<T>& in, Norm norm, size_t shift = 0) {
  const ShiftedArray<T> x(in.x, shift), center(in.center, shift), gradient(in.gradient, shift),
      difference(in.difference, shift), y(in.x.size(), shift);
  FabStep a = args_of(in, norm);
  a.x = x.data();
  a.center = center.data();
  a.gradient = gradient.data();
  a.difference = difference.data();
  a.y = y.data();
  REQUIRE(run<FabStep>(fab_step, a) == Status::ok);
  return y.host();
}

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

}  // namespace

// Sums in another order move λ by a few units of float64 over the least slope, 1e-3 or so here.
TEMPLATE_TEST_CASE("cuda: fab_step equals the CPU", "[cuda][fab_step]", double, float) {
  for (const Norm norm : {Norm::linf, Norm::l2})
    for (const auto& [images, pixels] :
         {std::pair{5, 37}, {3, 300}, {2, 1201}, {6, 1}, {0, 8}, {4, 0}}) {
      INFO("[" << images << ", " << pixels << "], norm " << int(norm));
      const auto in = random_images<TestType>(images, pixels, unsigned(pixels));
      const std::vector<TestType> want = on_cpu(in, norm), got = on_device(in, norm);
      for (size_t i = 0; i < want.size(); ++i) {
        INFO("pixel " << i << ": " << got[i] << ", on the CPU " << want[i]);
        REQUIRE(std::abs(double{got[i]} - want[i]) <= std::max(2 * roundoff<TestType>, 1e-10));
      }
      CHECK(on_device(in, norm) == got);
      CHECK(on_device(in, norm, 1) == got);
    }
}

TEST_CASE("cuda: fab_step of exact numbers", "[cuda][fab_step]") {
  const auto projected = [&](std::vector<float> w, float difference, Norm norm) {
    const std::vector<float> from = {.5f, .25f, .5f};
    const DeviceArray<float> x(from), gradient(w), d(std::vector<float>{difference}), y(3);
    FabStep a{};
    a.x = a.center = x.data();
    a.gradient = gradient.data();
    a.difference = d.data();
    a.y = y.data();
    a.images = 1;
    a.pixels = 3;
    a.norm = norm;
    a.overshoot = 1;
    a.dtype = Dtype::f32;
    REQUIRE(run<FabStep>(fab_step, a) == Status::ok);
    return y.host();
  };
  CHECK(projected({1, 2, 0}, .375f, Norm::linf) == std::vector<float>{.375f, .125f, .5f});
  CHECK(projected({1, 2, 0}, -.375f, Norm::linf) == std::vector<float>{.625f, .375f, .5f});
  CHECK(projected({1, 2, 0}, .9375f, Norm::linf) == std::vector<float>{.0625f, 0, .5f});
  CHECK(projected({1, 2, 0}, 9, Norm::linf) == std::vector<float>{0, 0, .5f});
  CHECK(projected({1, 2, 0}, .3125f, Norm::l2) == std::vector<float>{.4375f, .125f, .5f});
  CHECK(projected({kNan, 1, 0}, .125f, Norm::linf) == std::vector<float>{.5f, .125f, .5f});
  CHECK(projected({kInf, 1, -kInf}, 1, Norm::linf) == std::vector<float>{.5f, .25f, .5f});
  CHECK(projected({1, -1, 1}, kNan, Norm::l2) == std::vector<float>{.5f, .25f, .5f});
  CHECK(projected({1, -1, 1}, kInf, Norm::l2) == std::vector<float>{0, 1, 0});
}

TEST_CASE("cuda: an image's fab_step does not depend on the batch", "[cuda][fab_step]") {
  const Images<float> batch = random_images<float>(3, 700, 7);
  for (const Norm norm : {Norm::linf, Norm::l2}) {
    const std::vector<float> all = on_device(batch, norm);
    for (int64_t image = 0; image < 3; ++image) {
      const auto row = [&](const std::vector<float>& v) {
        return std::vector<float>(v.begin() + image * 700, v.begin() + (image + 1) * 700);
      };
      const Images<float> alone{.images = 1,
                                .pixels = 700,
                                .x = row(batch.x),
                                .center = row(batch.center),
                                .gradient = row(batch.gradient),
                                .difference = {batch.difference[size_t(image)]}};
      CHECK(on_device(alone, norm) == row(all));
    }
  }
}

TEST_CASE("cuda: fab_step refuses bad arguments before any launch", "[cuda][fab_step]") {
  const auto status_of = [](auto change) {
    FabStep a{};
    a.dtype = Dtype::f32;
    change(a);
    return fab_step(Cuda{}, a);
  };
  CHECK(status_of([](FabStep& a) { a.images = -1; }) == Status::bad_args);
  CHECK(status_of([](FabStep& a) { a.pixels = -1; }) == Status::bad_args);
  CHECK(status_of([](FabStep& a) { a.pull = 2; }) == Status::bad_args);
  CHECK(status_of([](FabStep& a) { a.overshoot = std::nan(""); }) == Status::bad_args);
  CHECK(status_of([](FabStep& a) { a.dtype = Dtype::bf16; }) == Status::unsupported);
}

}  // namespace moat::tests
