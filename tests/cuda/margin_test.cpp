#include "kernels/loss/margin.h"

#include <climits>
#include <cmath>
#include <limits>

#include "tests/cuda/device_memory.h"
#include "tests/random_values.h"

namespace moat::tests {

using namespace kernels;

namespace {

constexpr float kLeft = 7;  // an output before the call: a NaN must have been written

template <class T>
struct Batch {
  int rows, classes;
  std::vector<T> logits;
  std::vector<int32_t> labels;
  std::vector<T> d_values;
};

struct Margins {
  std::vector<double> values, d_logits;
};

template <class T>
Batch<T> random_batch(int rows, int classes, unsigned seed) {
  // Multiples of 1/2 make ties.
  std::vector<double> logits = normals(size_t(rows) * size_t(classes), seed, 4);
  for (double& z : logits) z = std::round(z) / 2;
  return {.rows = rows,
          .classes = classes,
          .logits = rounded<T>(logits),
          .labels = integers<int32_t>(size_t(rows), seed + 1, 0, classes),
          .d_values = rounded<T>(normals(size_t(rows), seed + 2))};
}

template <class T>
Margins on_device(const Batch<T>& in) {
  const DeviceArray<T> z(in.logits), d(in.d_values),
      values(std::vector<T>(in.labels.size(), T(kLeft))),
      d_z(std::vector<T>(in.logits.size(), T(kLeft)));
  const DeviceArray<int32_t> labels(in.labels);
  REQUIRE(run<Margin>(margin, {z.data(), labels.data(), values.data(), in.rows, in.classes,
                               dtype_of<T>}) == Status::ok);
  REQUIRE(run<MarginGrad>(margin_grad, {z.data(), labels.data(), d.data(), d_z.data(), in.rows,
                                        in.classes, dtype_of<T>}) == Status::ok);
  return {widened(values.host()), widened(d_z.host())};
}

template <class T>
Margins on_cpu(const Batch<T>& in) {
  std::vector<T> values(in.labels.size()), d_z(in.logits.size());
  REQUIRE(margin(Cpu{}, {in.logits.data(), in.labels.data(), values.data(), in.rows, in.classes,
                         dtype_of<T>}) == Status::ok);
  REQUIRE(margin_grad(Cpu{}, {in.logits.data(), in.labels.data(), in.d_values.data(), d_z.data(),
                              in.rows, in.classes, dtype_of<T>}) == Status::ok);
  return {widened(values), widened(d_z)};
}

void require_same(const std::vector<double>& y, const std::vector<double>& want) {
  REQUIRE(y.size() == want.size());
  for (size_t i = 0; i < y.size(); ++i) {
    INFO("element " << i << ": " << y[i] << ", on the CPU " << want[i]);
    REQUIRE((y[i] == want[i] || (std::isnan(y[i]) && std::isnan(want[i]))));
  }
}

// One subtraction: the CPU's numbers.
template <class T>
void check(const Batch<T>& in) {
  INFO("[" << in.rows << ", " << in.classes << "]");
  const Margins got = on_device(in), want = on_cpu(in);
  require_same(got.values, want.values);
  require_same(got.d_logits, want.d_logits);
}

}  // namespace

TEMPLATE_TEST_CASE("cuda: margin equals the CPU", "[cuda][margin]", double, float, Bf16) {
  for (const auto& [rows, classes] :
       {std::pair{5, 2}, {9, 10}, {13, 67}, {1, 257}, {2, 512}, {3, 700}, {0, 0}})
    check(random_batch<TestType>(rows, classes, unsigned(classes)));
}

TEST_CASE("cuda: the first runner-up counts, and NaN before all", "[cuda][margin]") {
  const float inf = std::numeric_limits<float>::infinity(),
              nan = std::numeric_limits<float>::quiet_NaN();
  const Batch<float> in{
      .rows = 7,
      .classes = 4,
      .logits = {5,    3,    0, 3,    5, nan, 9,    nan,  nan, 1, 2,   0,   -inf, -inf,
                 -inf, -inf, 1, -inf, 0, inf, -inf, -inf, 3,   3, nan, nan, nan,  nan},
      .labels = {0, 0, 0, 1, 3, 2, 2},
      .d_values = {1, 2, 3, 4, 5, 6, 7}};
  check(in);
  const std::vector<double> d_z = on_device(in).d_logits;
  CHECK(std::vector<double>(d_z.begin(), d_z.begin() + 8) ==
        std::vector<double>{-1, 1, 0, 0, -2, 2, 0, 0});
  Batch<float> far = random_batch<float>(1, 700, 4);  // ties and NaN in different warps
  far.labels = {0};
  far.logits[333] = far.logits[301] = far.logits[699] = 50;
  check(far);
  CHECK(on_device(far).d_logits[301] != 0);
  far.logits[650] = far.logits[610] = nan;
  check(far);
  CHECK(on_device(far).d_logits[610] != 0);
}

TEST_CASE("cuda: a row whose label is no class has a NaN margin", "[cuda][margin]") {
  for (int classes : {5, 600}) {
    Batch<float> in = random_batch<float>(4, classes, 3);
    const Margins all = on_device(in);
    for (int bad : {-1, classes, INT_MAX, INT_MIN}) {
      in.labels[2] = bad;
      const Margins got = on_device(in);
      for (size_t row = 0; row < 4; ++row) {
        REQUIRE((row == 2 ? std::isnan(got.values[row]) : got.values[row] == all.values[row]));
        for (size_t i = row * size_t(classes); i < (row + 1) * size_t(classes); ++i)
          REQUIRE((row == 2 ? std::isnan(got.d_logits[i]) : got.d_logits[i] == all.d_logits[i]));
      }
    }
  }
}

TEST_CASE("cuda: margin refuses bad arguments before any launch", "[cuda][margin]") {
  CHECK(margin(Cuda{}, {.rows = -1, .classes = 2, .dtype = Dtype::f32}) == Status::bad_args);
  CHECK(margin(Cuda{}, {.rows = 1, .classes = 1, .dtype = Dtype::f32}) == Status::bad_args);
  CHECK(margin(Cuda{}, {.rows = 1, .classes = 2, .dtype = Dtype::i32}) == Status::unsupported);
  CHECK(margin_grad(Cuda{}, {.rows = -1, .classes = 2, .dtype = Dtype::f32}) == Status::bad_args);
  CHECK(margin_grad(Cuda{}, {.rows = 1, .classes = 1, .dtype = Dtype::f32}) == Status::bad_args);
}

}  // namespace moat::tests
