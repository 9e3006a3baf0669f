#include "kernels/loss/cross_entropy.h"

#include <climits>
#include <limits>

#include "tests/cuda/device_memory.h"
#include "tests/cuda/require_close.h"
#include "tests/random_values.h"

namespace moat::tests {

using namespace kernels;

namespace {

constexpr float kLeft = 7;  // an output before the call: a NaN must have been written

template <class T>
struct Loss {
  std::vector<T> values, d_logits;
  bool operator==(const Loss&) const = default;
};

template <class T>
struct Batch {
  int rows, classes;
  std::vector<T> logits;
  std::vector<int32_t> labels;
  std::vector<T> d_values;
};

template <class T>
Batch<T> random_batch(int rows, int classes, unsigned seed) {
  return {.rows = rows,
          .classes = classes,
          .logits = rounded<T>(normals(size_t(rows) * size_t(classes), seed, 3)),
          .labels = integers<int32_t>(size_t(rows), seed + 1, 0, classes),
          .d_values = rounded<T>(normals(size_t(rows), seed + 2))};
}

template <class T>
Loss<T> on_device(const Batch<T>& in) {
  const DeviceArray<T> z(in.logits), d(in.d_values),
      values(std::vector<T>(in.labels.size(), T(kLeft))),
      d_z(std::vector<T>(in.logits.size(), T(kLeft)));
  const DeviceArray<int32_t> labels(in.labels);
  REQUIRE(run<CrossEntropy>(cross_entropy, {z.data(), labels.data(), values.data(), in.rows,
                                            in.classes, dtype_of<T>}) == Status::ok);
  REQUIRE(run<CrossEntropyGrad>(cross_entropy_grad, {z.data(), labels.data(), d.data(), d_z.data(),
                                                     in.rows, in.classes, dtype_of<T>}) ==
          Status::ok);
  return {values.host(), d_z.host()};
}

// The CPU in float64, from the same rounded numbers.
template <class T>
Loss<double> reference(const Batch<T>& in) {
  const std::vector<double> z = widened(in.logits), d = widened(in.d_values);
  Loss<double> out{std::vector<double>(in.labels.size()), std::vector<double>(z.size())};
  REQUIRE(cross_entropy(Cpu{}, {z.data(), in.labels.data(), out.values.data(), in.rows, in.classes,
                                Dtype::f64}) == Status::ok);
  REQUIRE(cross_entropy_grad(Cpu{}, {z.data(), in.labels.data(), d.data(), out.d_logits.data(),
                                     in.rows, in.classes, Dtype::f64}) == Status::ok);
  return out;
}

// Sums run in float64 in another order than on the CPU; then one rounding to T.
template <class T>
void check(const Batch<T>& in) {
  INFO("[" << in.rows << ", " << in.classes << "]");
  const double tolerance = 2 * roundoff<T> + 4 * (in.classes + 4) * roundoff<double>;
  const Loss<T> got = on_device(in);
  const Loss<double> want = reference(in);
  require_close(widened(got.values), want.values, tolerance);
  require_close(widened(got.d_logits), want.d_logits, tolerance);
}

}  // namespace

TEMPLATE_TEST_CASE("cuda: cross_entropy equals its float64 reference", "[cuda][cross_entropy]",
                   double, float, Bf16) {
  for (const auto& [rows, classes] :
       {std::pair{3, 1}, {9, 10}, {1, 257}, {2, 512}, {3, 700}, {0, 4}})
    check(random_batch<TestType>(rows, classes, unsigned(classes)));
}

TEST_CASE("cuda: cross_entropy of large gaps, ties, infinities and NaN", "[cuda][cross_entropy]") {
  const float inf = std::numeric_limits<float>::infinity(),
              nan = std::numeric_limits<float>::quiet_NaN();
  check<float>({.rows = 7,
                .classes = 4,
                .logits = {1e5, 0, -1e5, 1,   2, 2, 2,   2,    -inf, 0,    1,    2,    nan, 0,
                           0,   0, 1,    nan, 1, 0, inf, -inf, -inf, -inf, -inf, -inf, 0,   inf},
                .labels = {2, 1, 0, 2, 1, 3, 3},
                .d_values = {1, -1, 1, 2, 1, 1, 1}});
}

TEST_CASE("cuda: cross_entropy keeps its digits under a towering logit", "[cuda][cross_entropy]") {
  for (float margin : {20.0f, 50.0f, 80.0f}) {
    INFO("margin " << margin);
    const double others = 2 * std::exp(-double{margin}), share = others / (1 + others);
    const Loss<double> got = on_device<double>(
        {.rows = 1, .classes = 3, .logits = {0, margin, 0}, .labels = {1}, .d_values = {1}});
    CHECK(std::abs(got.values[0] / std::log1p(others) - 1) < 1e-14);
    CHECK(std::abs(got.d_logits[1] / -share - 1) < 1e-14);
    const Loss<float> narrow = on_device<float>(
        {.rows = 1, .classes = 3, .logits = {0, margin, 0}, .labels = {1}, .d_values = {1}});
    CHECK(std::abs(double{narrow.values[0]} / std::log1p(others) - 1) < 1e-7);
    CHECK(std::abs(double{narrow.d_logits[1]} / -share - 1) < 1e-7);
  }
}

TEST_CASE("cuda: a row whose label is no class has a NaN loss", "[cuda][cross_entropy]") {
  for (int classes : {5, 600}) {
    Batch<float> in = random_batch<float>(4, classes, 3);
    const Loss<float> all = on_device(in);
    for (int bad : {-1, classes, INT_MAX, INT_MIN}) {
      in.labels[2] = bad;
      const Loss<float> got = on_device(in);
      for (size_t row = 0; row < 4; ++row) {
        REQUIRE((row == 2 ? std::isnan(got.values[row]) : got.values[row] == all.values[row]));
        for (size_t i = row * size_t(classes); i < (row + 1) * size_t(classes); ++i)
          REQUIRE((row == 2 ? std::isnan(got.d_logits[i]) : got.d_logits[i] == all.d_logits[i]));
      }
    }
  }
}

TEST_CASE("cuda: a row's cross_entropy does not depend on the batch", "[cuda][cross_entropy]") {
  const Batch<float> batch = random_batch<float>(11, 13, 5);
  const Loss<float> all = on_device(batch);
  CHECK(on_device(batch) == all);
  for (int64_t row = 0; row < 11; ++row) {
    const auto at = batch.logits.begin() + row * 13;
    const Loss<float> alone = on_device<float>({.rows = 1,
                                                .classes = 13,
                                                .logits = {at, at + 13},
                                                .labels = {batch.labels[size_t(row)]},
                                                .d_values = {batch.d_values[size_t(row)]}});
    CHECK(alone.values[0] == all.values[size_t(row)]);
    CHECK(
        std::equal(alone.d_logits.begin(), alone.d_logits.end(), all.d_logits.begin() + row * 13));
  }
}

TEST_CASE("cuda: cross_entropy refuses bad arguments before any launch", "[cuda][cross_entropy]") {
  CHECK(cross_entropy(Cuda{}, {.rows = -1, .classes = 2, .dtype = Dtype::f32}) == Status::bad_args);
  CHECK(cross_entropy(Cuda{}, {.rows = 1, .classes = -2, .dtype = Dtype::f32}) == Status::bad_args);
  CHECK(cross_entropy(Cuda{}, {.rows = 1, .classes = 2, .dtype = Dtype::i32}) ==
        Status::unsupported);
  CHECK(cross_entropy_grad(Cuda{}, {.rows = -1, .classes = 2, .dtype = Dtype::f32}) ==
        Status::bad_args);
  CHECK(cross_entropy_grad(Cuda{}, {.rows = 1, .classes = -2, .dtype = Dtype::f32}) ==
        Status::bad_args);
}

}  // namespace moat::tests
