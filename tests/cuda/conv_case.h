#pragma once

// Convolutions over experts with random images and filters, and their results by the CPU kernel in
// float64, for the tests on CUDA.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "kernels/experts/grouped_conv2d.h"
#include "kernels/experts/grouped_conv2d/product.h"
#include "tests/cuda/device_memory.h"
#include "tests/random_values.h"

namespace moat::tests {

struct ConvCase {
  std::vector<int32_t> counts;  // images of each expert
  int left = 0;                 // images that no expert has
  kernels::Conv2dGeometry geometry{};
  bool with_bias = true, with_residual = false;  // the input gradient's `added` too
  // relu: the input gradient has a mask, which is x.
  kernels::ConvActivation activation = kernels::ConvActivation::none;
  kernels::FilterForm form = kernels::FilterForm::krsc;
  kernels::Precision precision = kernels::Precision::float32;
  bool with_offsets = true;  // without them there is one expert

  int experts() const { return static_cast<int>(counts.size()); }
  std::vector<int32_t> offsets() const {
    std::vector<int32_t> out{0};
    for (int count : counts) out.push_back(out.back() + count);
    return out;
  }
  const int32_t* given(const DeviceArray<int32_t>& offsets) const {
    return with_offsets ? offsets.data() : nullptr;
  }
  int used() const { return offsets().back(); }
  int n() const { return used() + left; }
  size_t x_size() const { return size_t(geometry.x_size()); }
  size_t y_size() const { return size_t(geometry.y_size()); }
  size_t filter_size() const { return size_t(geometry.filter_size()); }
};

// Ragged segments with empty experts first, in the middle and last.
inline const std::vector<int32_t> kRaggedImages{0, 2, 1, 0, 3, 0};

inline kernels::Conv2dGeometry square(int side, int c_in, int c_out, int taps, int stride,
                                      int padding) {
  return {side, side, c_in, c_out, taps, taps, stride, padding, kernels::Dtype::f64};
}

// Shapes that every product meets.
inline std::vector<ConvCase> conv_cases() {
  const auto shape = [](std::vector<int32_t> counts, int left, kernels::Conv2dGeometry g) {
    return ConvCase{.counts = std::move(counts), .left = left, .geometry = g};
  };
  constexpr kernels::Dtype f64 = kernels::Dtype::f64;
  return {
      shape(kRaggedImages, 1, square(5, 8, 16, 3, 1, 1)),  // whole chunks
      shape({2, 3}, 0, square(4, 3, 5, 3, 1, 1)),          // odd channels
      shape({1}, 2, square(6, 7, 67, 1, 1, 0)),            // one expert, one tap
      shape({0, 3}, 0, square(5, 16, 8, 1, 2, 0)),         // pixels without taps
      shape({1, 0, 1}, 1, square(6, 8, 8, 3, 2, 1)),       // stride 2
      shape({1, 2}, 0, square(7, 5, 6, 3, 2, 1)),          // and odd channels
      shape({2}, 0, {5, 8, 8, 8, 5, 5, 1, 2, f64}),        // 5 x 5
      shape({1, 1}, 0, {4, 7, 4, 9, 2, 3, 3, 4, f64}),     // more padding than taps
      shape({2}, 0, {1, 1, 8, 8, 3, 3, 2, 1, f64}),        // a pixel
      shape({0, 0, 2, 0}, 0, square(3, 8, 72, 3, 1, 1)),   // all to one expert
      shape({0, 0}, 2, square(3, 8, 8, 3, 1, 1)),          // none to any
      shape({0}, 0, square(3, 8, 8, 3, 1, 1)),             // no images
      shape({}, 2, square(3, 8, 8, 3, 1, 1)),              // no experts
      {.counts = {3}, .geometry = square(6, 8, 16, 3, 2, 1), .with_offsets = false},
      {.counts = {2}, .geometry = square(4, 3, 5, 3, 1, 1), .with_offsets = false},
      {.counts = {0}, .geometry = square(3, 8, 8, 3, 1, 1), .with_offsets = false},
  };
}

template <class T>
kernels::Conv2dGeometry geometry_of(const ConvCase& s) {
  kernels::Conv2dGeometry g = s.geometry;
  g.dtype = dtype_of<T>;
  return g;
}

inline std::string said(const ConvCase& s, size_t bytes) {
  const kernels::Conv2dGeometry& g = s.geometry;
  return "images " + std::to_string(s.n()) + " of " + std::to_string(g.height) + " x " +
         std::to_string(g.width) + ", channels " + std::to_string(g.c_in) + " to " +
         std::to_string(g.c_out) + ", filter " + std::to_string(g.r) + " x " + std::to_string(g.s) +
         ", stride " + std::to_string(g.stride) + ", padding " + std::to_string(g.padding) +
         ", bytes " + std::to_string(bytes) + (s.with_offsets ? "" : ", without offsets");
}

// Images that no expert has are NaN.
template <class T>
struct ConvInputs {
  std::vector<T> x, d_y, residual, added;
  std::vector<kernels::compute_t<T>> filters, bias;

  template <class Values>
  ConvInputs(const ConvCase& s, Values&& values)
      : x(rounded<T>(values(size_t(s.n()) * s.x_size(), 1u))),
        d_y(rounded<T>(values(size_t(s.n()) * s.y_size(), 2u))),
        residual(rounded<T>(values(size_t(s.n()) * s.y_size(), 3u))),
        added(rounded<T>(values(size_t(s.n()) * s.x_size(), 6u))),
        filters(rounded<kernels::compute_t<T>>(values(s.counts.size() * s.filter_size(), 4u))),
        bias(rounded<kernels::compute_t<T>>(
            values(s.counts.size() * size_t(s.geometry.c_out), 5u))) {
    std::fill(x.begin() + std::ptrdiff_t(size_t(s.used()) * s.x_size()), x.end(), T(NAN));
    std::fill(d_y.begin() + std::ptrdiff_t(size_t(s.used()) * s.y_size()), d_y.end(), T(NAN));
  }

  // The packed form: KRSC in the images' format, each filter in whole cache lines.
  std::vector<T> packed(const ConvCase& s) const {
    kernels::Conv2dGeometry g = s.geometry;
    g.dtype = dtype_of<T>;
    const size_t stride = kernels::packed_filter_stride(g) / sizeof(T), size = s.filter_size();
    std::vector<T> out(stride * s.counts.size(), T(NAN));
    for (size_t e = 0; e < s.counts.size(); ++e)
      for (size_t i = 0; i < size; ++i) out[e * stride + i] = T(filters[e * size + i]);
    return out;
  }
};

inline std::vector<double> random_values(size_t count, unsigned seed) {
  return normals(count, seed);
}
inline std::vector<double> integer_values(size_t count, unsigned seed) {
  return integers<double>(count, seed, -2, 3);
}

// Float64 results, and the sums of magnitudes that bound the errors of others.
struct ConvReference {
  std::vector<double> value, magnitude;
};

template <class T>
std::vector<double> filters_in_format(const std::vector<T>& filters, kernels::Dtype images) {
  std::vector<double> out = widened(filters);
  if (images == kernels::Dtype::bf16)
    for (double& f : out) f = kernels::Bf16(static_cast<float>(f));
  return out;
}

inline std::vector<double> magnitudes(std::vector<double> values) {
  for (double& v : values) v = std::abs(v);
  return values;
}

struct WideInputs {
  std::vector<double> x, d_y, residual, added, filters, bias;
};

// run(inputs, activation) -> result, all in float64.
template <class T, class Run>
ConvReference reference(const ConvCase& s, const ConvInputs<T>& in, Run&& run) {
  WideInputs wide{widened(in.x),
                  widened(in.d_y),
                  widened(in.residual),
                  widened(in.added),
                  filters_in_format(in.filters, dtype_of<T>),
                  widened(in.bias)};
  const std::vector<double> value = run(wide, s.activation);
  for (auto* values : {&wide.x, &wide.d_y, &wide.residual, &wide.added, &wide.filters, &wide.bias})
    *values = magnitudes(std::move(*values));
  return {value, run(wide, kernels::ConvActivation::none)};
}

template <class T>
ConvReference forward_reference(const ConvCase& s, const ConvInputs<T>& in) {
  return reference(s, in, [&](const WideInputs& wide, kernels::ConvActivation activation) {
    std::vector<double> y(size_t(s.n()) * s.y_size());
    const auto offsets = s.offsets();
    REQUIRE(grouped_conv2d(kernels::Cpu{},
                           {.x = wide.x.data(),
                            .filters = wide.filters.data(),
                            .bias = s.with_bias ? wide.bias.data() : nullptr,
                            .residual = s.with_residual ? wide.residual.data() : nullptr,
                            .y = y.data(),
                            .offsets = offsets.data(),
                            .n = s.used(),
                            .experts = s.experts(),
                            .geometry = s.geometry,
                            .form = kernels::FilterForm::krsc,
                            .activation = activation}) == kernels::Status::ok);
    return y;
  });
}

template <class T>
ConvReference input_grad_reference(const ConvCase& s, const ConvInputs<T>& in) {
  return reference(s, in, [&](const WideInputs& wide, kernels::ConvActivation activation) {
    const bool masks = activation == kernels::ConvActivation::relu;
    std::vector<double> d_x(size_t(s.n()) * s.x_size());
    const auto offsets = s.offsets();
    REQUIRE(grouped_conv2d_input_grad(kernels::Cpu{},
                                      {.d_y = wide.d_y.data(),
                                       .filters = wide.filters.data(),
                                       .added = s.with_residual ? wide.added.data() : nullptr,
                                       .mask = masks ? wide.x.data() : nullptr,
                                       .d_x = d_x.data(),
                                       .offsets = offsets.data(),
                                       .n = s.used(),
                                       .experts = s.experts(),
                                       .geometry = s.geometry,
                                       .form = kernels::FilterForm::krsc}) == kernels::Status::ok);
    return d_x;
  });
}

template <class T>
ConvReference weight_grad_reference(const ConvCase& s, const ConvInputs<T>& in) {
  return reference(s, in, [&](const WideInputs& wide, kernels::ConvActivation) {
    std::vector<double> d_filters(s.counts.size() * s.filter_size());
    const auto offsets = s.offsets();
    REQUIRE(grouped_conv2d_weight_grad(kernels::Cpu{}, {.x = wide.x.data(),
                                                        .d_y = wide.d_y.data(),
                                                        .d_filters = d_filters.data(),
                                                        .offsets = offsets.data(),
                                                        .n = s.used(),
                                                        .experts = s.experts(),
                                                        .geometry = s.geometry}) ==
            kernels::Status::ok);
    return d_filters;
  });
}

// |got - value| <= error · magnitude + rounding · |value|.
template <class T>
void require_near(const std::vector<T>& got, const ConvReference& expected, double error,
                  double rounding) {
  REQUIRE(got.size() == expected.value.size());
  for (size_t i = 0; i < got.size(); ++i) {
    const double value = double(kernels::compute_t<T>(got[i])), right = expected.value[i],
                 tolerance = error * expected.magnitude[i] + rounding * std::abs(right);
    if (!(std::abs(value - right) <= tolerance))
      FAIL("element " << i << ": " << value << ", expected " << right << " within " << tolerance);
  }
}

// How far a sum may be from float64, in units of Σ|a||b|. float32: adding up to 300 terms one after
// another, plus 3 · 2^-22 of each product for what its two parts leave out; tf32: operands rounded
// to 11 bits.
template <class T>
double conv_error(kernels::Precision precision) {
  if constexpr (sizeof(T) == 8) return 300 * roundoff<double>;
  return precision == kernels::Precision::tf32 && sizeof(T) == 4 ? 0x1p-9 : 32 * roundoff<float>;
}
// Of a stored result.
template <class T>
double conv_rounding() {
  return sizeof(T) == 2 ? roundoff<kernels::Bf16> : 0;
}

template <class T>
bool equal_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

}  // namespace moat::tests
