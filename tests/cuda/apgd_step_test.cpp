#include "kernels/update/apgd_step.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/cuda/device_memory.h"
#include "tests/random_values.h"

namespace moat::tests {

using namespace kernels;

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

template <class T>
struct Images {
  int images, pixels;
  std::vector<T> x, previous, gradient, center;
  std::vector<double> step;
};

template <class T>
Images<T> random_images(int images, int pixels, unsigned seed, double eps) {
  const size_t count = size_t(images) * size_t(pixels);
  std::vector<double> center = normals(count, seed, 0.4), x = normals(count, seed + 1, eps),
                      previous = normals(count, seed + 2, eps);
  for (size_t i = 0; i < count; ++i) {
    center[i] = std::clamp(0.5 + center[i], 0.0, 1.0);
    x[i] = std::clamp(center[i] + x[i], 0.0, 1.0);
    previous[i] = std::clamp(center[i] + previous[i], 0.0, 1.0);
  }
  std::vector<double> step = normals(size_t(images), seed + 3, eps);
  for (double& s : step) s = std::abs(s);
  return {images,
          pixels,
          rounded<T>(x),
          rounded<T>(previous),
          rounded<T>(normals(count, seed + 4)),
          rounded<T>(center),
          step};
}

struct Ball {
  Norm norm = Norm::linf;
  double eps = 0.03, momentum = 0.75;
};

template <class T>
ApgdStep args_of(const Images<T>& in, const Ball& ball) {
  ApgdStep a{};
  a.images = in.images;
  a.pixels = in.pixels;
  a.norm = ball.norm;
  a.eps = ball.eps;
  a.momentum = ball.momentum;
  a.dtype = dtype_of<T>;
  return a;
}

template <class T>
std::vector<T> on_cpu(const Images<T>& in, const Ball& ball) {
  std::vector<T> y(in.x.size());
  ApgdStep a = args_of(in, ball);
  a.x = in.x.data();
  a.previous = in.previous.data();
  a.gradient = in.gradient.data();
  a.center = in.center.data();
  a.step = in.step.data();
  a.y = y.data();
  REQUIRE(apgd_step(Cpu{}, a) == Status::ok);
  return y;
}

// Array number `shifted` lies one value behind an aligned address.
template <class T>
std::vector<T> on_device(const Images<T>& in, const Ball& ball, size_t shifted = 5) {
  const ShiftedArray<T> x(in.x, shifted == 0), previous(in.previous, shifted == 1),
      gradient(in.gradient, shifted == 2), center(in.center, shifted == 3),
      y(in.x.size(), shifted == 4);
  const DeviceArray<double> step(in.step);
  ApgdStep a = args_of(in, ball);
  a.x = x.data();
  a.previous = previous.data();
  a.gradient = gradient.data();
  a.center = center.data();
  a.step = step.data();
  a.y = y.data();
  REQUIRE(run<ApgdStep>(apgd_step, a) == Status::ok);
  return y.host();
}

// The contract of apgd_step.h, whatever the step was.
template <class T>
void require_inside(const Images<T>& in, const Ball& ball, const std::vector<T>& y) {
  for (size_t image = 0; image < size_t(in.images); ++image) {
    double square = 0;
    for (size_t i = image * size_t(in.pixels); i < (image + 1) * size_t(in.pixels); ++i) {
      REQUIRE((y[i] >= 0 && y[i] <= 1));
      const double apart = std::abs(double{y[i]} - in.center[i]);
      if (ball.norm == Norm::linf) REQUIRE(apart <= ball.eps);
      square += apart * apart;
    }
    if (ball.norm == Norm::l2) REQUIRE(std::sqrt(square) <= ball.eps * (1 + 1e-6));
  }
}

// Products may be fused, and norms are sums in another order: a few units.
template <class T>
void check(const Images<T>& in, const Ball& ball) {
  INFO("[" << in.images << ", " << in.pixels << "], norm " << int(ball.norm) << ", eps "
           << ball.eps);
  const std::vector<T> want = on_cpu(in, ball), got = on_device(in, ball);
  const double few_units = 4 * std::max(roundoff<T>, in.pixels * roundoff<double>);
  for (size_t i = 0; i < want.size(); ++i) {
    INFO("pixel " << i << ": " << got[i] << ", on the CPU " << want[i]);
    REQUIRE(std::abs(double{got[i]} - want[i]) <= few_units);
  }
  require_inside(in, ball, want);
  require_inside(in, ball, got);
  REQUIRE(on_device(in, ball) == got);
}

}  // namespace

TEMPLATE_TEST_CASE("cuda: apgd_step equals the CPU and stays inside the ball", "[cuda][apgd_step]",
                   double, float) {
  for (const Norm norm : {Norm::linf, Norm::l2}) {
    for (double eps : {0.0, 1e-9, 0.031})
      for (double momentum : {0.75, 1.0})
        check(random_images<TestType>(3, 37, 1, eps), {norm, eps, momentum});
    check(random_images<TestType>(3, 40, 2, 0.1), {norm, 0.1});
    check(random_images<TestType>(2, 2052, 3, 0.1), {norm, 0.1});
    check(random_images<TestType>(1, 1, 4, 0.1), {norm, 0.1});
    check(random_images<TestType>(0, 8, 5, 0.1), {norm, 0.1});
    check(random_images<TestType>(4, 0, 6, 0.1), {norm, 0.1});
  }
}

TEST_CASE("cuda: apgd_step of odd gradients and steps", "[cuda][apgd_step]") {
  Images<float> odd{.images = 5,
                    .pixels = 4,
                    .x = std::vector<float>(20, .5f),
                    .previous = std::vector<float>(20, .5f),
                    .gradient = {},
                    .center = std::vector<float>(20, .5f),
                    .step = {0.125, double{kNan}, double{kInf}, -1, 0.125}};
  for (int image = 0; image < 4; ++image)
    for (float g : {kNan, kInf, -kInf, 0.f}) odd.gradient.push_back(g);
  odd.gradient.insert(odd.gradient.end(), {0, 0, 0, 0});
  for (const Norm norm : {Norm::linf, Norm::l2}) {
    check(odd, {norm, 0.25, 0.75});
    const std::vector<float> y = on_device(odd, {norm, 0.25, 1});
    CHECK(y[0] == .5f);
    CHECK(y[3] == .5f);
    if (norm == Norm::linf)
      CHECK(std::vector<float>{y[1], y[2]} == std::vector<float>{.625f, .375f});
    CHECK(std::vector<float>(y.begin() + 4, y.begin() + 8) == std::vector<float>(4, .5f));
    if (norm == Norm::linf)
      CHECK(std::vector<float>{y[9], y[10]} == std::vector<float>{.75f, .25f});
    CHECK(std::vector<float>(y.begin() + 12, y.end()) == std::vector<float>(8, .5f));
  }
}

TEST_CASE("cuda: an image's apgd_step does not depend on the batch", "[cuda][apgd_step]") {
  const Images<float> batch = random_images<float>(3, 700, 7, 0.03);
  for (const Norm norm : {Norm::linf, Norm::l2}) {
    const std::vector<float> all = on_device(batch, {norm});
    for (int64_t image = 0; image < 3; ++image) {
      const auto row = [&](const std::vector<float>& v) {
        return std::vector<float>(v.begin() + image * 700, v.begin() + (image + 1) * 700);
      };
      const Images<float> alone{1,
                                700,
                                row(batch.x),
                                row(batch.previous),
                                row(batch.gradient),
                                row(batch.center),
                                {batch.step[size_t(image)]}};
      CHECK(on_device(alone, {norm}) == row(all));
    }
  }
}

TEST_CASE("cuda: apgd_step at addresses that are not multiples of 16", "[cuda][apgd_step]") {
  const Images<float> in = random_images<float>(2, 40, 8, 0.03);
  for (const Norm norm : {Norm::linf, Norm::l2}) {
    const std::vector<float> want = on_device(in, {norm});
    for (size_t shifted = 0; shifted < 5; ++shifted) CHECK(on_device(in, {norm}, shifted) == want);
  }
}

TEST_CASE("cuda: apgd_step refuses bad arguments before any launch", "[cuda][apgd_step]") {
  const auto status_of = [](auto change) {
    ApgdStep a{};
    a.dtype = Dtype::f32;
    change(a);
    return apgd_step(Cuda{}, a);
  };
  CHECK(status_of([](ApgdStep& a) { a.images = -1; }) == Status::bad_args);
  CHECK(status_of([](ApgdStep& a) { a.pixels = -1; }) == Status::bad_args);
  CHECK(status_of([](ApgdStep& a) { a.eps = -1; }) == Status::bad_args);
  CHECK(status_of([](ApgdStep& a) { a.eps = std::nan(""); }) == Status::bad_args);
  CHECK(status_of([](ApgdStep& a) { a.momentum = 1.5; }) == Status::bad_args);
  CHECK(status_of([](ApgdStep& a) { a.momentum = std::nan(""); }) == Status::bad_args);
  CHECK(status_of([](ApgdStep& a) { a.dtype = Dtype::bf16; }) == Status::unsupported);
}

}  // namespace moat::tests
