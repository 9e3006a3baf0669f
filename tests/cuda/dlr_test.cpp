#include "kernels/loss/dlr.h"

#include <climits>
#include <cmath>
#include <limits>

#include "tests/cuda/device_memory.h"
#include "tests/random_values.h"

namespace moat::tests {

using namespace kernels;

namespace {

constexpr float kLeft = 7;  // an output before the call: a NaN must have been written
constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

template <class T>
struct Batch {
  int rows, classes;
  std::vector<T> logits;
  std::vector<int32_t> labels, targets;  // without targets: empty
  std::vector<T> d_values;
};

struct Losses {
  std::vector<double> values, d_logits;
};

template <class T>
Batch<T> random_batch(int rows, int classes, unsigned seed, bool targeted) {
  // Multiples of 1/2 make ties.
  std::vector<double> logits = normals(size_t(rows) * size_t(classes), seed, 4);
  for (double& z : logits) z = std::round(z) / 2;
  return {.rows = rows,
          .classes = classes,
          .logits = rounded<T>(logits),
          .labels = integers<int32_t>(size_t(rows), seed + 1, 0, classes),
          .targets = targeted ? integers<int32_t>(size_t(rows), seed + 3, 0, classes)
                              : std::vector<int32_t>{},
          .d_values = rounded<T>(normals(size_t(rows), seed + 2))};
}

template <class T>
Losses on_device(const Batch<T>& in) {
  const DeviceArray<T> z(in.logits), d(in.d_values),
      values(std::vector<T>(in.labels.size(), T(kLeft))),
      d_z(std::vector<T>(in.logits.size(), T(kLeft)));
  const DeviceArray<int32_t> labels(in.labels), targets(in.targets);
  const int32_t* aim = in.targets.empty() ? nullptr : targets.data();
  REQUIRE(run<Dlr>(dlr, {z.data(), labels.data(), aim, values.data(), in.rows, in.classes,
                         dtype_of<T>}) == Status::ok);
  REQUIRE(run<DlrGrad>(dlr_grad, {z.data(), labels.data(), aim, d.data(), d_z.data(), in.rows,
                                  in.classes, dtype_of<T>}) == Status::ok);
  return {widened(values.host()), widened(d_z.host())};
}

template <class T>
Losses on_cpu(const Batch<T>& in) {
  std::vector<T> values(in.labels.size()), d_z(in.logits.size());
  const int32_t* aim = in.targets.empty() ? nullptr : in.targets.data();
  REQUIRE(dlr(Cpu{}, {in.logits.data(), in.labels.data(), aim, values.data(), in.rows, in.classes,
                      dtype_of<T>}) == Status::ok);
  REQUIRE(dlr_grad(Cpu{}, {in.logits.data(), in.labels.data(), aim, in.d_values.data(), d_z.data(),
                           in.rows, in.classes, dtype_of<T>}) == Status::ok);
  return {widened(values), widened(d_z)};
}

// A sum of two products may be fused: a unit of float64, and one of T where that tips a rounding.
template <class T>
void require_same(const std::vector<double>& y, const std::vector<double>& want) {
  REQUIRE(y.size() == want.size());
  for (size_t i = 0; i < y.size(); ++i) {
    INFO("element " << i << ": " << y[i] << ", on the CPU " << want[i]);
    REQUIRE((y[i] == want[i] || (std::isnan(y[i]) && std::isnan(want[i])) ||
             std::abs(y[i] - want[i]) <= 2 * roundoff<T> * std::abs(want[i])));
  }
}

template <class T>
void check(const Batch<T>& in) {
  INFO("[" << in.rows << ", " << in.classes << "]" << (in.targets.empty() ? "" : ", targeted"));
  const Losses got = on_device(in), want = on_cpu(in);
  require_same<T>(got.values, want.values);
  require_same<T>(got.d_logits, want.d_logits);
}

}  // namespace

TEMPLATE_TEST_CASE("cuda: dlr equals the CPU", "[cuda][dlr]", double, float, Bf16) {
  for (const auto& [rows, classes] :
       {std::pair{5, 3}, {6, 4}, {9, 10}, {13, 67}, {1, 257}, {2, 512}, {3, 700}, {0, 0}})
    for (bool targeted : {false, true})
      if (!targeted || classes != 3)
        check(random_batch<TestType>(rows, classes, unsigned(classes), targeted));
}

TEST_CASE("cuda: dlr ranks the first of equals, and NaN before all", "[cuda][dlr]") {
  const Batch<float> in{
      .rows = 8,
      .classes = 4,
      .logits = {5, 3, 0, 3,     2,    2, 2, 2, 5,    kNan, 9,  kNan, kNan, 1, 2, 0,
                 1, 2, 3, -kInf, kInf, 1, 2, 3, -0.f, 0,    -1, -2,   3,    3, 3, 1},
      .labels = {0, 3, 0, 1, 3, 0, 2, 3},
      .targets = {1, 0, 2, 0, 1, 2, 0, 3},
      .d_values = {1, 2, 3, 4, 5, 6, 7, 8}};
  check(in);
  Batch<float> plain = in;
  plain.targets.clear();
  check(plain);
  const std::vector<double> d_z = on_device(plain).d_logits;
  CHECK(d_z[2] == 0);  // of 5, 3, 0, 3 the third is the class behind the 0
  CHECK(d_z[3] != 0);
  CHECK(on_device(in).values[1] == 0);
  Batch<float> lanes = random_batch<float>(1, 100, 5, false);  // three leaders of one lane
  lanes.labels = {1};
  lanes.logits[3] = lanes.logits[35] = 50;
  lanes.logits[67] = 60;
  check(lanes);
  CHECK(on_device(lanes).d_logits[35] != 0);
  CHECK(on_device(lanes).d_logits[3] == 0);
  for (bool targeted : {false, true}) {
    Batch<float> far = random_batch<float>(1, 700, 4, targeted);  // leaders in different warps
    far.labels = {0};
    if (targeted) far.targets = {650};
    for (size_t i : {333, 301, 699, 44, 5}) far.logits[i] = 50;
    check(far);
    const auto d_far = on_device(far).d_logits;
    CHECK(d_far[5] != 0);
    CHECK((d_far[333] != 0) == targeted);  // the fourth of five equals
    CHECK(d_far[699] == 0);
    far.logits[650] = far.logits[610] = kNan;
    check(far);
  }
}

TEST_CASE("cuda: a row whose label or target is no class has a NaN dlr", "[cuda][dlr]") {
  for (int classes : {5, 600})
    for (bool bad_target : {false, true}) {
      Batch<float> in = random_batch<float>(4, classes, 3, true);
      const Losses all = on_device(in);
      for (int bad : {-1, classes, INT_MAX, INT_MIN}) {
        (bad_target ? in.targets : in.labels)[2] = bad;
        const Losses got = on_device(in);
        for (size_t row = 0; row < 4; ++row) {
          REQUIRE((row == 2 ? std::isnan(got.values[row]) : got.values[row] == all.values[row]));
          for (size_t i = row * size_t(classes); i < (row + 1) * size_t(classes); ++i)
            REQUIRE((row == 2 ? std::isnan(got.d_logits[i]) : got.d_logits[i] == all.d_logits[i]));
        }
      }
    }
}

TEST_CASE("cuda: dlr refuses bad arguments before any launch", "[cuda][dlr]") {
  const int32_t target = 0;
  CHECK(dlr(Cuda{}, {.rows = -1, .classes = 3, .dtype = Dtype::f32}) == Status::bad_args);
  CHECK(dlr(Cuda{}, {.rows = 1, .classes = 2, .dtype = Dtype::f32}) == Status::bad_args);
  CHECK(dlr(Cuda{}, {.targets = &target, .rows = 1, .classes = 3, .dtype = Dtype::f32}) ==
        Status::bad_args);
  CHECK(dlr(Cuda{}, {.rows = 1, .classes = 3, .dtype = Dtype::i32}) == Status::unsupported);
  CHECK(dlr_grad(Cuda{}, {.rows = -1, .classes = 3, .dtype = Dtype::f32}) == Status::bad_args);
  CHECK(dlr_grad(Cuda{}, {.rows = 1, .classes = 2, .dtype = Dtype::f32}) == Status::bad_args);
  CHECK(dlr_grad(Cuda{}, {.targets = &target, .rows = 1, .classes = 3, .dtype = Dtype::f32}) ==
        Status::bad_args);
}

}  // namespace moat::tests
