#include "kernels/update/adamw.h"

#include <limits>

#include "tests/cuda/device_memory.h"
#include "tests/cuda/require_close.h"
#include "tests/random_values.h"

namespace moat::tests {

using namespace kernels;

namespace {

template <class T>
struct Parameters {
  std::vector<T> weights, gradients, first, second;
  std::vector<double> powers{1, 1};
  bool operator==(const Parameters&) const = default;
};

// The second moment is that of gradients near 1.
template <class T>
Parameters<T> random_parameters(size_t count, unsigned seed) {
  std::vector<double> squares = normals(count, seed + 3);
  for (double& v : squares) v = 0.5 + v * v;
  return {rounded<T>(normals(count, seed)),
          rounded<T>(normals(count, seed + 1)),
          rounded<T>(normals(count, seed + 2)),
          rounded<T>(squares),
          {0.25, 0.75}};
}

// Scalars that every format holds exactly.
struct Step {
  double lr = 0.125, beta1 = 0.875, beta2 = 0.96875, eps = 0.0078125, weight_decay = 0.015625;
};

template <class T>
Adamw args_of(const Parameters<T>& in, const Step& s) {
  return {.count = int64_t(in.weights.size()),
          .lr = s.lr,
          .beta1 = s.beta1,
          .beta2 = s.beta2,
          .eps = s.eps,
          .weight_decay = s.weight_decay,
          .dtype = dtype_of<T>};
}

// What the device is told besides the parameters.
struct Setting {
  int steps = 1;
  int64_t skip = 0;
  double lr_factor = 1;
  int shifted =
      -1;  // the array (0 weights, … 3) that starts one value behind a multiple of 16 bytes
  std::vector<uint8_t> decayed = {};  // the mask; empty: none
};

template <class T>
Parameters<T> on_device(const Parameters<T>& in, const Step& s, const Setting& setting = {}) {
  const auto place = [&](std::vector<T> values, int array) {
    values.insert(array == setting.shifted ? values.begin() : values.end(), T(42));
    return values;
  };
  const DeviceArray<T> w(place(in.weights, 0)), d_w(place(in.gradients, 1)), m(place(in.first, 2)),
      v(place(in.second, 3));
  const DeviceArray<double> powers(in.powers), factor(std::vector<double>{setting.lr_factor});
  const DeviceArray<int64_t> skip(std::vector<int64_t>{setting.skip});
  const DeviceArray<uint8_t> decayed(setting.decayed);
  Adamw a = args_of(in, s);
  a.weights = w.data() + (setting.shifted == 0);
  a.gradients = d_w.data() + (setting.shifted == 1);
  a.first_moment = m.data() + (setting.shifted == 2);
  a.second_moment = v.data() + (setting.shifted == 3);
  a.powers = powers.data();
  a.lr_factor = factor.data();
  a.skip = skip.data();
  a.decayed = setting.decayed.empty() ? nullptr : decayed.data();
  for (int i = 0; i < setting.steps; ++i) REQUIRE(run<Adamw>(adamw, a) == Status::ok);
  const auto take = [&](const DeviceArray<T>& from, int array) {
    std::vector<T> values = from.host();
    const auto other = array == setting.shifted ? values.begin() : values.end() - 1;
    REQUIRE(*other == T(42));
    values.erase(other);
    return values;
  };
  return {take(w, 0), take(d_w, 1), take(m, 2), take(v, 3), powers.host()};
}

// A step is a dozen roundings of terms near 1, of which a target may fuse some; the quotient by
// sqrt(v) / sqrt(1 - beta2^t), which is near 1 or above, keeps their size.
template <class T>
void check(const Parameters<T>& in, const Step& s, const Setting& setting = {}) {
  INFO(in.weights.size() << " parameters, " << setting.steps << " steps, shifted "
                         << setting.shifted);
  Parameters<double> want{widened(in.weights), widened(in.gradients), widened(in.first),
                          widened(in.second), in.powers};
  Adamw a = args_of(want, s);
  a.weights = want.weights.data();
  a.gradients = want.gradients.data();
  a.first_moment = want.first.data();
  a.second_moment = want.second.data();
  a.powers = want.powers.data();
  a.lr *= setting.lr_factor;
  for (int i = 0; i < setting.steps; ++i) REQUIRE(adamw(Cpu{}, a) == Status::ok);
  const Parameters<T> got = on_device(in, s, setting);
  const double within = 32 * setting.steps * roundoff<T>;
  require_close(widened(got.weights), want.weights, within);
  require_close(widened(got.first), want.first, within);
  require_close(widened(got.second), want.second, within);
  require_close(widened(got.gradients), widened(in.gradients), 0);
  CHECK(got.powers == want.powers);
}

}  // namespace

TEMPLATE_TEST_CASE("cuda: adamw equals its float64 reference", "[cuda][adamw]", double, float) {
  for (const size_t count : {0, 1, 3, 4, 5, 1029})
    check(random_parameters<TestType>(count, unsigned(count) + 1), {});
  check(random_parameters<TestType>(21, 3), {}, {.steps = 5});
  Parameters<TestType> fresh = random_parameters<TestType>(21, 4);
  fresh.first.assign(21, 0);
  fresh.second.assign(21, 0);
  fresh.powers = {1, 1};
  check(fresh, {}, {.steps = 3});
}

TEST_CASE("cuda: adamw of exact numbers", "[cuda][adamw]") {
  // The first step divides by exactly |g|, so that it moves by lr, whatever the gradient's size.
  const Parameters<float> in{{1, -2, 4}, {0.5f, -8, 1024}, {0, 0, 0}, {0, 0, 0}};
  const Step step{.lr = 0.5, .beta1 = 0.5, .beta2 = 0.75, .eps = 0, .weight_decay = 0.25};
  const Parameters<float> got = on_device(in, step);
  CHECK(got.weights == std::vector<float>{0.375f, -1.25f, 3});  // 7/8 w - sign(g) / 2
  CHECK(got.first == std::vector<float>{0.25f, -4, 512});
  CHECK(got.second == std::vector<float>{0.0625f, 16, 262144});
  CHECK(got.powers == std::vector<double>{0.5, 0.75});
}

TEST_CASE("cuda: adamw leaves everything as it is where *skip is not 0", "[cuda][adamw]") {
  for (const int64_t skip : {int64_t{1}, int64_t{-1}, int64_t{1} << 32})
    for (const size_t count : {size_t{3}, size_t{600}}) {
      const Parameters<float> in = random_parameters<float>(count, 4);
      CHECK(on_device(in, {}, {.skip = skip}) == in);
    }
}

TEST_CASE("cuda: adamw reads the learning rate's factor on the device", "[cuda][adamw]") {
  check(random_parameters<float>(44, 6), {}, {.lr_factor = 0.5});
  check(random_parameters<double>(44, 6), {}, {.lr_factor = 0.25});
}

TEMPLATE_TEST_CASE("cuda: adamw decays the weights that it is told", "[cuda][adamw]", double,
                   float) {
  for (const size_t count : {size_t{3}, size_t{1029}}) {
    const Parameters<TestType> in = random_parameters<TestType>(count, 5);
    const auto mask = integers<uint8_t>(count, 3, 0, 2);
    const auto weights = [&](double decay, const std::vector<uint8_t>& decayed = {}) {
      return on_device(in, {.weight_decay = decay}, {.decayed = decayed}).weights;
    };
    const auto got = weights(2, mask), all = weights(2), none = weights(0);
    for (size_t i = 0; i < count; ++i) REQUIRE(got[i] == (mask[i] ? all : none)[i]);
  }
}

TEST_CASE("cuda: adamw at addresses that are not multiples of 16", "[cuda][adamw]") {
  for (int shifted = 0; shifted < 4; ++shifted) {
    check(random_parameters<float>(44, 6), {}, {.shifted = shifted});
    check(random_parameters<double>(44, 6), {}, {.shifted = shifted});
  }
}

TEST_CASE("cuda: adamw of infinities and NaN, and twice the same bits", "[cuda][adamw]") {
  const float inf = std::numeric_limits<float>::infinity(),
              nan = std::numeric_limits<float>::quiet_NaN();
  const Parameters<float> in{
      {1, 1, inf, 1, 1}, {inf, nan, 1, -inf, 1}, {1, 1, 1, 1, -inf}, {1, 1, 1, inf, 1}, {0.5, 0.5}};
  check(in, {});
  const Parameters<float> some = random_parameters<float>(1029, 9);
  CHECK(on_device(some, {}) == on_device(some, {}));
}

TEST_CASE("cuda: adamw refuses bad arguments before any launch", "[cuda][adamw]") {
  CHECK(adamw(Cuda{}, {.count = -1, .dtype = Dtype::f32}) == Status::bad_args);
  CHECK(adamw(Cuda{}, {.count = 1, .dtype = Dtype::bf16}) == Status::unsupported);
}

}  // namespace moat::tests
