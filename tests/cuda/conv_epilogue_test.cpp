#include "kernels/vision/conv_epilogue.h"

#include <cmath>
#include <limits>

#include "tests/cuda/device_memory.h"
#include "tests/random_values.h"

namespace moat::tests {

using namespace kernels;

namespace {

struct Shape {
  int pixels, channels;
  size_t y_shift = 0, residual_shift = 0, mask_shift = 0;  // values behind an aligned address
};

struct Form {
  bool bias, residual, mask;
  ConvActivation activation;
};

// The same sums in the same format: equal to the last bit.
template <class T>
void check(const Shape& s, const Form& form) {
  INFO("conv_epilogue [" << s.pixels << ", " << s.channels << "], bias " << form.bias
                         << ", residual " << form.residual << ", mask " << form.mask << ", shifts "
                         << s.y_shift << " " << s.residual_shift << " " << s.mask_shift);
  using C = compute_t<T>;
  const size_t count = size_t(s.pixels) * size_t(s.channels);
  std::vector<double> values = normals(count, 1);
  for (size_t i = 0; i < count; i += 5) values[i] = NAN;
  const std::vector<T> y = rounded<T>(values), residual = rounded<T>(normals(count, 2));
  std::vector<double> passes = normals(count, 4);
  for (size_t i = 0; i < count; i += 7) passes[i] = i % 2 == 0 ? 0 : NAN;
  const std::vector<T> mask = rounded<T>(passes);
  const std::vector<C> bias = rounded<C>(normals(size_t(s.channels), 3));
  const DeviceArray<T> device_y(shifted(y, s.y_shift)),
      device_residual(shifted(residual, s.residual_shift)),
      device_mask(shifted(mask, s.mask_shift));
  const DeviceArray<C> device_bias(bias);
  const ConvEpilogue args{
      .bias = form.bias ? device_bias.data() : nullptr,
      .residual = form.residual ? device_residual.data() + s.residual_shift : nullptr,
      .mask = form.mask ? device_mask.data() + s.mask_shift : nullptr,
      .y = device_y.data() + s.y_shift,
      .pixels = s.pixels,
      .channels = s.channels,
      .activation = form.activation,
      .dtype = dtype_of<T>};
  REQUIRE(run<ConvEpilogue>(conv_epilogue, args) == Status::ok);
  const std::vector<T> got = device_y.host();
  for (size_t i = 0; i < s.y_shift; ++i) REQUIRE(C(got[i]) == 0);
  for (size_t i = 0; i < count; ++i) {
    C sum = C(y[i]);
    if (form.residual) sum += C(residual[i]);
    if (form.bias) sum += bias[i % size_t(s.channels)];
    if (form.mask && C(mask[i]) <= 0) sum = 0;
    const T right = T(form.activation == ConvActivation::relu && !(sum > 0) ? C(0) : sum);
    INFO("element " << i << ": " << C(got[s.y_shift + i]) << ", expected " << C(right));
    if (std::isnan(double(C(right))))
      REQUIRE(std::isnan(double(C(got[s.y_shift + i]))));
    else
      REQUIRE(C(got[s.y_shift + i]) == C(right));
  }
}

}  // namespace

TEMPLATE_TEST_CASE("cuda: conv_epilogue adds and masks, NaN becomes 0 by relu",
                   "[cuda][conv_epilogue]", double, float, Bf16) {
  for (const Shape& s : {Shape{5, 8},
                         {1, 1},
                         {70, 16},
                         {33, 24},
                         {7, 5},
                         {9, 8, 1, 0},
                         {9, 8, 0, 1},
                         {9, 8, 0, 0, 1},
                         {0, 8},
                         {4, 0}})
    for (const bool with_bias : {true, false})
      for (const bool with_residual : {true, false})
        for (const bool with_mask : {true, false})
          for (const auto activation : {ConvActivation::relu, ConvActivation::none})
            check<TestType>(s, {with_bias, with_residual, with_mask, activation});
}

TEST_CASE("cuda: conv_epilogue refuses negative extents", "[cuda][conv_epilogue]") {
  REQUIRE(conv_epilogue(Cuda{}, {.pixels = -1, .channels = 1, .dtype = Dtype::f32}) ==
          Status::bad_args);
  REQUIRE(conv_epilogue(Cuda{}, {.pixels = 1, .channels = -1, .dtype = Dtype::f32}) ==
          Status::bad_args);
}

}  // namespace moat::tests
