#include "kernels/update/ball_step.h"

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
  std::vector<T> x, gradient, center, velocity;  // gradient, velocity: may be empty
};

template <class T>
Images<T> random_images(int images, int pixels, unsigned seed) {
  const size_t count = size_t(images) * size_t(pixels);
  std::vector<double> center = normals(count, seed, 0.4), x = normals(count, seed + 1, 0.05);
  for (size_t i = 0; i < count; ++i) {
    center[i] = std::clamp(0.5 + center[i], 0.0, 1.0);
    x[i] = std::clamp(center[i] + x[i], 0.0, 1.0);
  }
  return {.images = images,
          .pixels = pixels,
          .x = rounded<T>(x),
          .gradient = rounded<T>(normals(count, seed + 2)),
          .center = rounded<T>(center),
          .velocity = rounded<T>(normals(count, seed + 3, 0.1))};
}

struct Step {
  Norm norm = Norm::linf;
  double eps = 0.03, step = 0.01, momentum = 0.9;
};

// What both targets are given; the pointers are theirs.
template <class T>
BallStep args_of(const Images<T>& in, const Step& s) {
  BallStep a{};
  a.images = in.images;
  a.pixels = in.pixels;
  a.norm = s.norm;
  a.eps = s.eps;
  a.step = s.step;
  a.momentum = s.momentum;
  a.dtype = dtype_of<T>;
  return a;
}

template <class T>
struct Stepped {
  std::vector<T> y, velocity;
  bool operator==(const Stepped&) const = default;
};

template <class T>
Stepped<T> on_cpu(const Images<T>& in, const Step& s) {
  Stepped<T> out{.y = std::vector<T>(in.x.size()), .velocity = in.velocity};
  BallStep a = args_of(in, s);
  a.x = in.x.data();
  a.gradient = in.gradient.empty() ? nullptr : in.gradient.data();
  a.center = in.center.data();
  a.velocity = in.velocity.empty() ? nullptr : out.velocity.data();
  a.y = out.y.data();
  REQUIRE(ball_step(Cpu{}, a) == Status::ok);
  return out;
}

template <class T>
Stepped<T> on_device(const Images<T>& in, const Step& s) {
  const DeviceArray<T> x(in.x), gradient(in.gradient), center(in.center), velocity(in.velocity),
      y(in.x.size());
  BallStep a = args_of(in, s);
  a.x = x.data();
  a.gradient = in.gradient.empty() ? nullptr : gradient.data();
  a.center = center.data();
  a.velocity = in.velocity.empty() ? nullptr : velocity.data();
  a.y = y.data();
  REQUIRE(run<BallStep>(ball_step, a) == Status::ok);
  return {y.host(), velocity.host()};
}

// L∞ without a velocity has no sums: the same bits. Else sums in another order move a norm by a few
// units of float64, and a value that is then rounded to T by one unit of T; a velocity near zero
// may also change its sign, and with it a step of L∞: where signs differ y is not compared.
template <class T>
void require_same(const Images<T>& in, const Step& s) {
  INFO("[" << in.images << ", " << in.pixels << "], norm " << int(s.norm) << ", eps " << s.eps
           << (in.gradient.empty() ? ", no gradient" : "")
           << (in.velocity.empty() ? ", no velocity" : ""));
  const Stepped<T> want = on_cpu(in, s), got = on_device(in, s);
  if (s.norm == Norm::linf && in.velocity.empty()) {
    REQUIRE(got.y == want.y);
    return;
  }
  const double few_units = 4 * std::max(roundoff<T>, in.pixels * roundoff<double>);
  for (size_t i = 0; i < want.velocity.size(); ++i)
    REQUIRE(std::abs(double{got.velocity[i]} - want.velocity[i]) <=
            few_units * std::max(1.0, std::abs(double{want.velocity[i]})));
  for (size_t i = 0; i < want.y.size(); ++i) {
    INFO("pixel " << i << ": " << got.y[i] << ", on the CPU " << want.y[i]);
    if (s.norm == Norm::linf && (got.velocity[i] > 0) != (want.velocity[i] > 0)) continue;
    REQUIRE(std::abs(double{got.y[i]} - want.y[i]) <= few_units);
  }
}

// The contract of ball_step.h, whatever the step was.
template <class T>
void require_inside(const Images<T>& in, const Step& s, const std::vector<T>& y) {
  for (int image = 0; image < in.images; ++image) {
    double square = 0;
    for (int p = 0; p < in.pixels; ++p) {
      const size_t i = size_t(image) * size_t(in.pixels) + size_t(p);
      REQUIRE((y[i] >= 0 && y[i] <= 1));
      const double apart = std::abs(double{y[i]} - in.center[i]);
      if (s.norm == Norm::linf) REQUIRE(apart <= s.eps);
      square += apart * apart;
    }
    if (s.norm == Norm::l2) REQUIRE(std::sqrt(square) <= s.eps * (1 + 1e-6));
  }
}

template <class T>
void check(Images<T> in, const Step& s) {
  const auto once = [&] {
    require_same(in, s);
    require_inside(in, s, on_device(in, s).y);
  };
  once();
  in.velocity.clear();
  once();
  in.gradient.clear();
  once();
}

}  // namespace

TEMPLATE_TEST_CASE("cuda: ball_step equals the CPU and stays inside the ball", "[cuda][ball_step]",
                   double, float) {
  for (const Norm norm : {Norm::linf, Norm::l2})
    for (double eps : {0.0, 1e-9, 0.031})
      check(random_images<TestType>(3, 37, 1), {.norm = norm, .eps = eps, .step = eps / 2 + 0.001});
  for (const Norm norm : {Norm::linf, Norm::l2}) {
    check(random_images<TestType>(2, 1201, 2), {.norm = norm, .eps = 0.1, .step = 0.2});
    check(random_images<TestType>(1, 1, 3), {.norm = norm});
    check(random_images<TestType>(0, 8, 4), {.norm = norm});
    check(random_images<TestType>(4, 0, 5), {.norm = norm});
  }
}

TEST_CASE("cuda: ball_step counts NaN as 0 and clamps an infinite gradient", "[cuda][ball_step]") {
  const float inf = std::numeric_limits<float>::infinity(),
              nan = std::numeric_limits<float>::quiet_NaN();
  const Images<float> odd{.images = 2,
                          .pixels = 6,
                          .x = {.5f, .5f, .5f, .5f, nan, .5f, .5f, .5f, .5f, .5f, .5f, .5f},
                          .gradient = {nan, inf, -inf, 0, 1, 1, nan, nan, 0, 0, -0.f, nan},
                          .center = std::vector<float>(12, .5f),
                          .velocity = std::vector<float>(12, .25f)};
  for (const Norm norm : {Norm::linf, Norm::l2}) {
    const Step step{.norm = norm, .eps = 0.25, .step = 0.125, .momentum = 0.5};
    check(odd, step);
    Images<float> plain = odd;
    plain.velocity.clear();
    const std::vector<float> y = on_device(plain, step).y;
    CHECK(std::vector<float>(y.begin() + 6, y.end()) == std::vector<float>(6, .5f));
    if (norm == Norm::linf)
      CHECK(std::vector<float>(y.begin(), y.begin() + 4) ==
            std::vector<float>{.5f, .625f, .375f, .5f});
  }
}

TEST_CASE("cuda: ball_step of exact numbers", "[cuda][ball_step]") {
  const Images<float> in{.images = 1,
                         .pixels = 2,
                         .x = {.5f, .5f},
                         .gradient = {3, -1},
                         .center = {.5f, .5f},
                         .velocity = {0, 1}};
  const Stepped<float> stepped = on_device(in, {.eps = 0.25, .step = 0.0625, .momentum = 0.5});
  CHECK(stepped.velocity == std::vector<float>{.75f, .25f});
  CHECK(stepped.y == std::vector<float>{.5625f, .5625f});
}

TEST_CASE("cuda: an image's ball_step does not depend on the batch", "[cuda][ball_step]") {
  const Images<float> batch = random_images<float>(3, 700, 7);
  for (const Norm norm : {Norm::linf, Norm::l2}) {
    const Stepped<float> all = on_device(batch, {.norm = norm});
    CHECK(on_device(batch, {.norm = norm}) == all);
    for (int64_t image = 0; image < 3; ++image) {
      const auto row = [&](const std::vector<float>& v) {
        return std::vector<float>(v.begin() + image * 700, v.begin() + (image + 1) * 700);
      };
      const Images<float> alone{.images = 1,
                                .pixels = 700,
                                .x = row(batch.x),
                                .gradient = row(batch.gradient),
                                .center = row(batch.center),
                                .velocity = row(batch.velocity)};
      CHECK(on_device(alone, {.norm = norm}) ==
            Stepped<float>{.y = row(all.y), .velocity = row(all.velocity)});
    }
  }
}

TEST_CASE("cuda: ball_step at addresses that are not multiples of 16", "[cuda][ball_step]") {
  constexpr int kPixels = 40;
  Images<float> in = random_images<float>(1, kPixels, 8);
  in.velocity.clear();
  const std::vector<float> want = on_cpu(in, {}).y;
  for (int shifted = 0; shifted < 4; ++shifted) {
    const auto place = [&](std::vector<float> values, int array) {
      values.insert(array == shifted ? values.begin() : values.end(), 0);
      return values;
    };
    const DeviceArray<float> x(place(in.x, 0)), gradient(place(in.gradient, 1)),
        center(place(in.center, 2)), y(kPixels + 1);
    const int at_y = shifted == 3;
    BallStep a = args_of(in, {});
    a.x = x.data() + (shifted == 0);
    a.gradient = gradient.data() + (shifted == 1);
    a.center = center.data() + (shifted == 2);
    a.y = y.data() + at_y;
    REQUIRE(run<BallStep>(ball_step, a) == Status::ok);
    const std::vector<float> got = y.host();
    CHECK(std::equal(want.begin(), want.end(), got.begin() + at_y));
    CHECK(std::isnan(got[at_y ? 0 : kPixels]));
  }
}

TEST_CASE("cuda: ball_step refuses bad arguments before any launch", "[cuda][ball_step]") {
  const auto status_of = [](auto change) {
    BallStep a{};
    a.dtype = Dtype::f32;
    change(a);
    return ball_step(Cuda{}, a);
  };
  float velocity = 0;
  CHECK(status_of([](BallStep& a) { a.images = -1; }) == Status::bad_args);
  CHECK(status_of([](BallStep& a) { a.pixels = -1; }) == Status::bad_args);
  CHECK(status_of([](BallStep& a) { a.eps = -1; }) == Status::bad_args);
  CHECK(status_of([](BallStep& a) { a.step = std::nan(""); }) == Status::bad_args);
  CHECK(status_of([](BallStep& a) { a.momentum = std::nan(""); }) == Status::bad_args);
  CHECK(status_of([&](BallStep& a) { a.velocity = &velocity; }) == Status::bad_args);
  CHECK(status_of([](BallStep& a) { a.dtype = Dtype::bf16; }) == Status::unsupported);
}

}  // namespace moat::tests
