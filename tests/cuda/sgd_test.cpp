#include "kernels/update/sgd.h"

#include <limits>

#include "tests/cuda/device_memory.h"
#include "tests/cuda/require_close.h"
#include "tests/random_values.h"

namespace moat::tests {

using namespace kernels;

namespace {

template <class T>
struct Parameters {
  std::vector<T> weights, gradients, velocity;  // velocity may be empty
  bool operator==(const Parameters&) const = default;
};

template <class T>
Parameters<T> random_parameters(size_t count, unsigned seed) {
  return {rounded<T>(normals(count, seed)), rounded<T>(normals(count, seed + 1)),
          rounded<T>(normals(count, seed + 2))};
}

// Scalars that every format holds exactly.
struct Step {
  double lr = 0.125, momentum = 0.875, weight_decay = 0.015625;
};

template <class T>
Sgd args_of(const Parameters<T>& in, const Step& s) {
  return {.count = int64_t(in.weights.size()),
          .lr = s.lr,
          .momentum = in.velocity.empty() ? 0 : s.momentum,
          .weight_decay = s.weight_decay,
          .dtype = dtype_of<T>};
}

// `shifted` (0 weights, 1 gradients, 2 velocity) starts one value behind a multiple of 16 bytes.
// `decayed`: the mask; empty: none.
template <class T>
Parameters<T> on_device(const Parameters<T>& in, const Step& s, int64_t skip = 0, int shifted = -1,
                        const std::vector<uint8_t>& decayed = {}) {
  const auto place = [&](std::vector<T> values, int array) {
    values.insert(array == shifted ? values.begin() : values.end(), T(42));
    return values;
  };
  const DeviceArray<T> w(place(in.weights, 0)), d_w(place(in.gradients, 1)),
      v(place(in.velocity, 2));
  const DeviceArray<int64_t> device_skip(std::vector<int64_t>{skip});
  const DeviceArray<uint8_t> mask(decayed);
  Sgd a = args_of(in, s);
  a.weights = w.data() + (shifted == 0);
  a.gradients = d_w.data() + (shifted == 1);
  a.velocity = in.velocity.empty() ? nullptr : v.data() + (shifted == 2);
  a.skip = device_skip.data();
  a.decayed = decayed.empty() ? nullptr : mask.data();
  REQUIRE(run<Sgd>(sgd, a) == Status::ok);
  const auto take = [&](const DeviceArray<T>& from, int array) {
    std::vector<T> values = from.host();
    const auto other = array == shifted ? values.begin() : values.end() - 1;
    REQUIRE(*other == T(42));
    values.erase(other);
    return values;
  };
  return {take(w, 0), take(d_w, 1), take(v, 2)};
}

// A step has four products with a sum each, of terms near 1: a target may fuse each pair, which
// moves a result by a rounding or two of the format.
template <class T>
void check(const Parameters<T>& in, const Step& s, int shifted = -1) {
  INFO(in.weights.size() << " parameters, shifted " << shifted
                         << (in.velocity.empty() ? ", no velocity" : ""));
  Parameters<double> want{widened(in.weights), widened(in.gradients), widened(in.velocity)};
  Sgd a = args_of(want, s);
  a.weights = want.weights.data();
  a.gradients = want.gradients.data();
  a.velocity = want.velocity.empty() ? nullptr : want.velocity.data();
  REQUIRE(sgd(Cpu{}, a) == Status::ok);
  const Parameters<T> got = on_device(in, s, 0, shifted);
  require_close(widened(got.weights), want.weights, 16 * roundoff<T>);
  require_close(widened(got.velocity), want.velocity, 16 * roundoff<T>);
  require_close(widened(got.gradients), widened(in.gradients), 0);
}

}  // namespace

TEMPLATE_TEST_CASE("cuda: sgd equals its float64 reference", "[cuda][sgd]", double, float) {
  for (const size_t count : {0, 1, 3, 4, 5, 1029}) {
    Parameters<TestType> in = random_parameters<TestType>(count, unsigned(count) + 1);
    check(in, {});
    in.velocity.clear();
    check(in, {});
  }
}

TEST_CASE("cuda: sgd of exact numbers", "[cuda][sgd]") {
  const Parameters<float> in{{1, -2}, {0.5f, 3}, {0.25f, 1}};
  const Step step{.lr = 0.5, .momentum = 0.5, .weight_decay = 0.25};
  // g = (.75, 2.5), v = (.875, 3)
  CHECK(on_device(in, step) == Parameters<float>{{0.5625f, -3.5f}, {0.5f, 3}, {0.875f, 3}});
}

TEST_CASE("cuda: sgd leaves everything as it is where *skip is not 0", "[cuda][sgd]") {
  for (const int64_t skip : {int64_t{1}, int64_t{-1}, int64_t{1} << 32})
    for (const size_t count : {size_t{3}, size_t{600}}) {
      const Parameters<float> in = random_parameters<float>(count, 4);
      CHECK(on_device(in, {}, skip) == in);
    }
}

TEST_CASE("cuda: sgd reads the learning rate's factor on the device", "[cuda][sgd]") {
  const DeviceArray<float> w(std::vector<float>{1, -2}), d_w(std::vector<float>{0.5f, 3});
  const DeviceArray<double> factor(std::vector<double>{0.25});
  Sgd a{.count = 2, .lr = 2, .dtype = Dtype::f32};
  a.weights = w.data();
  a.gradients = d_w.data();
  a.lr_factor = factor.data();
  REQUIRE(run<Sgd>(sgd, a) == Status::ok);
  CHECK(w.host() == std::vector<float>{0.75f, -3.5f});
}

TEMPLATE_TEST_CASE("cuda: sgd decays the weights that it is told", "[cuda][sgd]", double, float) {
  for (const size_t count : {size_t{3}, size_t{1029}})
    for (const bool has_velocity : {false, true}) {
      Parameters<TestType> in = random_parameters<TestType>(count, 5);
      if (!has_velocity) in.velocity.clear();
      const auto mask = integers<uint8_t>(count, 3, 0, 2);
      const auto weights = [&](double decay, const std::vector<uint8_t>& decayed = {}) {
        return on_device(in, {.weight_decay = decay}, 0, -1, decayed).weights;
      };
      const auto got = weights(0.5, mask), all = weights(0.5), none = weights(0);
      for (size_t i = 0; i < count; ++i) REQUIRE(got[i] == (mask[i] ? all : none)[i]);
    }
}

TEST_CASE("cuda: sgd at addresses that are not multiples of 16", "[cuda][sgd]") {
  for (int shifted = 0; shifted < 3; ++shifted) {
    check(random_parameters<float>(44, 6), {}, shifted);
    check(random_parameters<double>(44, 6), {}, shifted);
  }
}

TEST_CASE("cuda: sgd without a velocity of infinities and NaN", "[cuda][sgd]") {
  const float inf = std::numeric_limits<float>::infinity(),
              nan = std::numeric_limits<float>::quiet_NaN();
  check<float>({{1, 1, 1, inf, 1}, {inf, -inf, nan, 1, inf}, {}}, {});
  check<float>({{1, 1, 1, inf, 1}, {inf, -inf, nan, 1, inf}, {1, 1, 1, 1, -inf}}, {});
}

TEST_CASE("cuda: sgd refuses bad arguments before any launch", "[cuda][sgd]") {
  CHECK(sgd(Cuda{}, {.count = -1, .dtype = Dtype::f32}) == Status::bad_args);
  CHECK(sgd(Cuda{}, {.count = 1, .momentum = 0.5, .dtype = Dtype::f32}) == Status::bad_args);
  CHECK(sgd(Cuda{}, {.count = 1, .dtype = Dtype::bf16}) == Status::unsupported);
}

}  // namespace moat::tests
