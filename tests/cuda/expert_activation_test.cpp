#include "kernels/experts/expert_activation.h"

#include <cmath>
#include <limits>

#include "tests/cuda/device_memory.h"
#include "tests/random_values.h"

namespace moat::tests {

using namespace kernels;

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr auto kAll = {ExpertActivation::none, ExpertActivation::relu, ExpertActivation::gelu,
                       ExpertActivation::gelu_tanh, ExpertActivation::swiglu};

// |y - y64| <= c u max(1, |x|) |d|: the functions are at most |x| and their slopes below 1.2, and a
// GPU's exp, tanh and erfc are within 6 units. For swiglu |d| holds the other factors.
template <class T>
void require_close(const std::vector<T>& y, const std::vector<double>& reference,
                   const std::vector<double>& scale) {
  const std::vector<double> got = widened(y);
  REQUIRE(got.size() == reference.size());
  for (size_t i = 0; i < got.size(); ++i) {
    INFO("element " << i << ": " << got[i] << ", reference " << reference[i]);
    if (std::isnan(reference[i]))
      REQUIRE(std::isnan(got[i]));
    else if (std::isinf(reference[i]))
      REQUIRE(got[i] == reference[i]);
    else
      REQUIRE(std::abs(got[i] - reference[i]) <=
              1.01 * roundoff<T> * std::abs(reference[i]) + 32 * roundoff<compute_t<T>> * scale[i]);
  }
}

// How many elements after an aligned address each array starts.
struct Offsets {
  size_t pre = 0, y = 0, d_y = 0, d_pre = 0;
};

// `pre` is [rows, width].
template <class T>
void check(ExpertActivation activation, int rows, int width, const std::vector<double>& pre,
           Offsets offsets = {}) {
  INFO("activation " << int(activation) << " [" << rows << ", " << width << "], offsets "
                     << offsets.pre << offsets.y << offsets.d_y << offsets.d_pre);
  const bool gated = activation == ExpertActivation::swiglu;
  const int out_width = activated_width(activation, width);
  const size_t count = size_t(rows) * size_t(width), out_count = size_t(rows) * size_t(out_width);
  std::vector<T> padded = rounded<T>(pre), padded_d = rounded<T>(normals(out_count, 9));
  const std::vector<double> wide_pre = widened(padded), wide_d_y = widened(padded_d);
  padded.insert(padded.begin(), offsets.pre, T(0));
  padded_d.insert(padded_d.begin(), offsets.d_y, T(0));
  const DeviceArray<T> device_pre(padded), device_d_y(padded_d), y(out_count + offsets.y),
      d_pre(count + offsets.d_pre);
  const auto values_of = [&](const DeviceArray<T>& array, size_t offset) {
    const std::vector<T> all = array.host();
    return std::vector<T>(all.begin() + static_cast<int64_t>(offset), all.end());
  };
  // How large the terms behind each element of y and d_pre are.
  std::vector<double> y_scale(out_count), d_scale(count);
  for (size_t i = 0; i < count; ++i) {
    const size_t r = i / size_t(width), c = i % size_t(width), half = size_t(width) / 2;
    const double x = std::max(1.0, std::abs(wide_pre[i]));
    if (!gated) {
      y_scale[i] = x;
      d_scale[i] = x * x * std::abs(wide_d_y[i]);
    } else {
      const bool gate = c < half;
      const double other = std::abs(wide_pre[gate ? i + half : i - half]);
      const size_t out = r * half + (gate ? c : c - half);
      y_scale[out] = x * std::max(1.0, other);
      d_scale[i] = std::max(1.0, other) * x * std::abs(wide_d_y[out]);
    }
  }

  REQUIRE(run<ApplyExpertActivation>(expert_activation, {.pre = device_pre.data() + offsets.pre,
                                                         .y = y.data() + offsets.y,
                                                         .rows = rows,
                                                         .width = width,
                                                         .activation = activation,
                                                         .dtype = dtype_of<T>}) == Status::ok);
  std::vector<double> want(out_count);
  REQUIRE(expert_activation(Cpu{}, {.pre = wide_pre.data(),
                                    .y = want.data(),
                                    .rows = rows,
                                    .width = width,
                                    .activation = activation,
                                    .dtype = Dtype::f64}) == Status::ok);
  require_close(values_of(y, offsets.y), want, y_scale);

  REQUIRE(run<ExpertActivationGrad>(expert_activation_grad, {.d_y = device_d_y.data() + offsets.d_y,
                                                             .pre = device_pre.data() + offsets.pre,
                                                             .d_pre = d_pre.data() + offsets.d_pre,
                                                             .rows = rows,
                                                             .width = width,
                                                             .activation = activation,
                                                             .dtype = dtype_of<T>}) == Status::ok);
  std::vector<double> want_d(count);
  REQUIRE(expert_activation_grad(Cpu{}, {.d_y = wide_d_y.data(),
                                         .pre = wide_pre.data(),
                                         .d_pre = want_d.data(),
                                         .rows = rows,
                                         .width = width,
                                         .activation = activation,
                                         .dtype = Dtype::f64}) == Status::ok);
  // At infinity a slope is 0 · inf in some formats and not in others: any value.
  std::vector<T> got_d = values_of(d_pre, offsets.d_pre);
  for (size_t i = 0; i < count; ++i)
    if (std::isinf(wide_pre[i])) {
      got_d[i] = T(0);
      want_d[i] = 0;
    }
  require_close(got_d, want_d, d_scale);
}

}  // namespace

TEMPLATE_TEST_CASE("cuda: expert_activation equals its float64 reference",
                   "[cuda][expert_activation]", double, float, Bf16) {
  for (const auto activation : kAll)
    for (const auto& [rows, width] :
         {std::pair{5, 32}, {3, 14}, {1, 1058}, {17, 2}, {0, 6}, {4, 0}})
      check<TestType>(activation, rows, width,
                      normals(size_t(rows) * size_t(width), unsigned(width), 3));
}

TEMPLATE_TEST_CASE("cuda: expert_activation at addresses that are not multiples of 16",
                   "[cuda][expert_activation]", double, float, Bf16) {
  for (const auto activation : {ExpertActivation::relu, ExpertActivation::swiglu})
    for (const Offsets offsets : {Offsets{.pre = 1}, {.y = 1}, {.d_y = 1}, {.d_pre = 1}})
      check<TestType>(activation, 2, 32, normals(64, 1), offsets);
}

TEMPLATE_TEST_CASE("cuda: expert_activation of odd widths", "[cuda][expert_activation]", float,
                   Bf16) {
  for (const auto activation : kAll)
    if (activation != ExpertActivation::swiglu)
      check<TestType>(activation, 3, 37, normals(111, 1, 3));
}

TEST_CASE("cuda: expert_activation of zeros, large values, infinities and NaN",
          "[cuda][expert_activation]") {
  const std::vector<double> pre{0,    -0.0, 1e-30,        -1e-30, 30,    -30,          1e4, -1e4,
                                kInf, 2,    std::nan(""), 1,      -kInf, std::nan(""), 5,   -5};
  for (const auto activation : kAll) check<float>(activation, 2, 8, pre);
}

TEST_CASE("cuda: expert_activation refuses bad arguments before any launch",
          "[cuda][expert_activation]") {
  const auto both = [](int rows, int width, ExpertActivation activation, Dtype dtype) {
    const Status status = expert_activation(
        Cuda{}, {.rows = rows, .width = width, .activation = activation, .dtype = dtype});
    CHECK(expert_activation_grad(
              Cuda{}, {.rows = rows, .width = width, .activation = activation, .dtype = dtype}) ==
          status);
    return status;
  };
  CHECK(both(-1, 2, ExpertActivation::relu, Dtype::f32) == Status::bad_args);
  CHECK(both(1, -2, ExpertActivation::relu, Dtype::f32) == Status::bad_args);
  CHECK(both(1, 3, ExpertActivation::swiglu, Dtype::f32) == Status::bad_args);
  CHECK(both(1, 2, ExpertActivation::swiglu, Dtype::i32) == Status::unsupported);
}

}  // namespace moat::tests
