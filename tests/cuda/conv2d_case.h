#pragma once

// A convolution with random images, its kernels on the device, and the CPU's in float64.

#include <algorithm>
#include <cmath>

#include "kernels/library/context.h"
#include "kernels/vision/conv2d.h"
#include "tests/cuda/device_memory.h"
#include "tests/random_values.h"

namespace moat::tests {

using namespace kernels;

struct Conv2dCase {
  int n;
  Conv2dGeometry geometry;
  bool with_bias = true, with_residual = false;  // the input gradient's `added` too
  ConvActivation activation = ConvActivation::none;
  FilterForm form = FilterForm::krsc;
  Precision precision = Precision::float32;
  size_t shift = 0;  // images lie this many values behind an aligned address
};

// A case with a relu has a mask in its input gradient, x.
inline bool masks(const Conv2dCase& s) { return s.activation == ConvActivation::relu; }

template <class T>
struct Conv2dOperands {
  std::vector<T> x, d_y, residual, added;
  std::vector<compute_t<T>> filter, bias;

  explicit Conv2dOperands(const Conv2dCase& s)
      : x(rounded<T>(normals(size_t(s.n * s.geometry.x_size()), 1))),
        d_y(rounded<T>(normals(size_t(s.n * s.geometry.y_size()), 2))),
        residual(rounded<T>(normals(size_t(s.n * s.geometry.y_size()), 3))),
        added(rounded<T>(normals(size_t(s.n * s.geometry.x_size()), 6))),
        filter(rounded<compute_t<T>>(normals(size_t(s.geometry.filter_size()), 4))),
        bias(rounded<compute_t<T>>(normals(size_t(s.geometry.c_out), 5))) {}

  // Images [first, first + n) alone.
  Conv2dOperands of_images(const Conv2dCase& s, int first, int n) const {
    Conv2dOperands part = *this;
    const auto cut = [&](const std::vector<T>& from, int64_t each) {
      return std::vector<T>(from.begin() + first * each, from.begin() + (first + n) * each);
    };
    part.x = cut(x, s.geometry.x_size());
    part.d_y = cut(d_y, s.geometry.y_size());
    part.residual = cut(residual, s.geometry.y_size());
    part.added = cut(added, s.geometry.x_size());
    return part;
  }
};

template <class T>
Conv2dGeometry geometry_of(const Conv2dCase& s) {
  Conv2dGeometry g = s.geometry;
  g.dtype = dtype_of<T>;
  return g;
}

template <class Args>
Status call(Context& context, Status (*kernel)(Cuda, const Args&),
            size_t (*workspace)(Cuda, const Args&), const Args& args) {
  const size_t bytes = workspace(Cuda{.context = &context}, args);
  const DeviceArray<char> scratch(bytes);
  const Status status =
      kernel({.context = &context, .workspace = scratch.data(), .workspace_bytes = bytes}, args);
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
  return status;
}

// A filter in the form of the case.
template <class T>
class DeviceFilter {
 public:
  DeviceFilter(const Conv2dCase& s, const Conv2dOperands<T>& in, FilterUse use, Context& context)
      : krsc_(in.filter), packed_(conv2d_packed_bytes(Cuda{}, geometry_of<T>(s), use)) {
    data_ = krsc_.data();
    if (s.form == FilterForm::krsc) return;
    data_ = packed_.data();
    REQUIRE(call<Conv2dPack>(context, conv2d_pack, conv2d_pack_workspace,
                             {.filter = krsc_.data(),
                              .packed = packed_.data(),
                              .geometry = geometry_of<T>(s),
                              .use = use}) == Status::ok);
  }
  const void* data() const { return data_; }

 private:
  DeviceArray<compute_t<T>> krsc_;
  DeviceArray<char> packed_;
  const void* data_;
};

template <class T>
std::vector<T> without(std::vector<T> values, size_t shift) {
  values.erase(values.begin(), values.begin() + std::ptrdiff_t(shift));
  return values;
}

template <class T>
std::vector<T> forward(Context& context, const Conv2dCase& s, const Conv2dOperands<T>& in) {
  context.set_precision(s.precision);
  const DeviceArray<T> x(shifted(in.x, s.shift)), residual(shifted(in.residual, s.shift)),
      y(in.residual.size() + s.shift);
  const DeviceArray<compute_t<T>> bias(in.bias);
  const DeviceFilter<T> filter(s, in, FilterUse::forward, context);
  REQUIRE(call<Conv2d>(context, conv2d, conv2d_workspace,
                       {.x = x.data() + s.shift,
                        .filter = filter.data(),
                        .bias = s.with_bias ? bias.data() : nullptr,
                        .residual = s.with_residual ? residual.data() + s.shift : nullptr,
                        .y = y.data() + s.shift,
                        .n = s.n,
                        .geometry = geometry_of<T>(s),
                        .form = s.form,
                        .activation = s.activation}) == Status::ok);
  return without(y.host(), s.shift);
}

template <class T>
std::vector<T> input_grad(Context& context, const Conv2dCase& s, const Conv2dOperands<T>& in) {
  context.set_precision(s.precision);
  const DeviceArray<T> d_y(shifted(in.d_y, s.shift)), added(shifted(in.added, s.shift)),
      x(shifted(in.x, s.shift)), d_x(in.x.size() + s.shift);
  const DeviceFilter<T> filter(s, in, FilterUse::input_grad, context);
  REQUIRE(call<Conv2dInputGrad>(context, conv2d_input_grad, conv2d_input_grad_workspace,
                                {.d_y = d_y.data() + s.shift,
                                 .filter = filter.data(),
                                 .added = s.with_residual ? added.data() + s.shift : nullptr,
                                 .mask = masks(s) ? x.data() + s.shift : nullptr,
                                 .d_x = d_x.data() + s.shift,
                                 .n = s.n,
                                 .geometry = geometry_of<T>(s),
                                 .form = s.form}) == Status::ok);
  return without(d_x.host(), s.shift);
}

template <class T>
std::vector<compute_t<T>> weight_grad(Context& context, const Conv2dCase& s,
                                      const Conv2dOperands<T>& in) {
  context.set_precision(s.precision);
  const DeviceArray<T> x(shifted(in.x, s.shift)), d_y(shifted(in.d_y, s.shift));
  const DeviceArray<compute_t<T>> d_filter(in.filter.size());
  REQUIRE(call<Conv2dWeightGrad>(context, conv2d_weight_grad, conv2d_weight_grad_workspace,
                                 {.x = x.data() + s.shift,
                                  .d_y = d_y.data() + s.shift,
                                  .d_filter = d_filter.data(),
                                  .n = s.n,
                                  .geometry = geometry_of<T>(s)}) == Status::ok);
  return d_filter.host();
}

// What the CPU computes in float64 of the same operands, rounded as the device gets them.
struct WideOperands {
  std::vector<double> x, d_y, residual, added, filter, bias;

  template <class T>
  explicit WideOperands(const Conv2dOperands<T>& in)
      : x(widened(in.x)),
        d_y(widened(in.d_y)),
        residual(widened(in.residual)),
        added(widened(in.added)),
        filter(widened(in.filter)),
        bias(widened(in.bias)) {
    if constexpr (sizeof(T) == 2)
      for (double& f : filter) f = Bf16(static_cast<float>(f));
  }
  WideOperands magnitudes() const {
    WideOperands out = *this;
    for (auto* values : {&out.x, &out.d_y, &out.residual, &out.added, &out.filter, &out.bias})
      for (double& v : *values) v = std::abs(v);
    return out;
  }
};

inline std::vector<double> forward(const Conv2dCase& s, const WideOperands& in) {
  std::vector<double> y(in.residual.size());
  REQUIRE(conv2d(Cpu{}, {.x = in.x.data(),
                         .filter = in.filter.data(),
                         .bias = s.with_bias ? in.bias.data() : nullptr,
                         .residual = s.with_residual ? in.residual.data() : nullptr,
                         .y = y.data(),
                         .n = s.n,
                         .geometry = s.geometry,
                         .form = FilterForm::krsc,
                         .activation = s.activation}) == Status::ok);
  return y;
}
inline std::vector<double> input_grad(const Conv2dCase& s, const WideOperands& in) {
  std::vector<double> d_x(in.x.size());
  REQUIRE(conv2d_input_grad(Cpu{}, {.d_y = in.d_y.data(),
                                    .filter = in.filter.data(),
                                    .added = s.with_residual ? in.added.data() : nullptr,
                                    .mask = masks(s) ? in.x.data() : nullptr,
                                    .d_x = d_x.data(),
                                    .n = s.n,
                                    .geometry = s.geometry,
                                    .form = FilterForm::krsc}) == Status::ok);
  return d_x;
}
inline std::vector<double> weight_grad(const Conv2dCase& s, const WideOperands& in) {
  std::vector<double> d_filter(in.filter.size());
  REQUIRE(conv2d_weight_grad(Cpu{}, {.x = in.x.data(),
                                     .d_y = in.d_y.data(),
                                     .d_filter = d_filter.data(),
                                     .n = s.n,
                                     .geometry = s.geometry}) == Status::ok);
  return d_filter;
}

// |got - right| <= (terms of a sum · roundoff of float32, tf32's operands of 11 bits rounded or
// cut, and in bfloat16 two roundings: of the convolution, and behind the epilogue) · Σ|a||b|.
template <class T, class R>
void require_near(const Conv2dCase& s, const std::vector<R>& got, const std::vector<double>& right,
                  const std::vector<double>& scale, int64_t terms) {
  const double error =
      double(terms + 3) * (sizeof(T) == 8 ? roundoff<double> : roundoff<float>)+(
                              sizeof(T) == 4 && s.precision == Precision::tf32 ? 0x1p-9 : 0) +
      (sizeof(T) == 2 ? 2 * roundoff<Bf16> : 0);
  REQUIRE(got.size() == right.size());
  for (size_t i = 0; i < got.size(); ++i) {
    const double value = double(compute_t<R>(got[i])), tolerance = error * scale[i];
    if (!(std::abs(value - right[i]) <= tolerance))
      FAIL("element " << i << ": " << value << ", expected " << right[i] << " within "
                      << tolerance);
  }
}

}  // namespace moat::tests
