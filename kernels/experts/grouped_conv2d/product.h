#pragma once

// A convolution over experts as a product: what forward and input gradient have in common, for the
// kernels of every chip. A row of the product is a pixel of the result, a column one of its
// channels, and the sum runs over the taps of the filter and the channels of the images that are
// gathered from.

#include "kernels/experts/grouped_conv2d.h"

namespace moat::kernels {

struct ImageShape {
  int height, width, channels;
  constexpr int pixels() const { return height * width; }
  constexpr int64_t size() const { return int64_t{height} * width * channels; }
};

constexpr ImageShape x_shape(const Conv2dGeometry& g) { return {g.height, g.width, g.c_in}; }
constexpr ImageShape y_shape(const Conv2dGeometry& g) {
  return {g.out_height(), g.out_width(), g.c_out};
}

// Pixels, and values of a filter, are counted in 32 bits; values of a batch are not. What does
// not fit is not run.
template <class Grouped>
bool is_countable(const Grouped& a) {
  constexpr int64_t kMost = INT32_MAX - 1024;  // with room for the tile behind the last
  const Conv2dGeometry& g = a.geometry;
  const int64_t taps = int64_t{g.r} * g.s;
  const auto fits = [&](int64_t height, int64_t width) {  // padding and taps beyond it included
    return height <= kMost && width <= kMost && a.n * height <= kMost &&
           (a.n * height + 2 * (int64_t{g.padding} + g.r)) <=
               kMost / (width + 2 * (int64_t{g.padding} + g.s));
  };
  return fits(g.height, g.width) && fits(g.out_height(), g.out_width()) && taps <= kMost &&
         taps * g.c_in <= kMost && taps * g.c_out <= kMost;
}

struct ConvProduct {
  const void* from;       // x, or d_y
  const void* filters;    // one KRSC filter per expert, in the images' format,
  int64_t filter_stride;  // this many values apart
  const void* bias;       // of the forward product alone, or nullptr
  const void* residual;   // residual, or added, or nullptr
  const void* mask;       // of the input gradient alone, or nullptr
  void* to;               // y, or d_x
  const int32_t* offsets;
  int n, experts;
  Conv2dGeometry geometry;
  ImageShape from_shape, to_shape;
  FilterUse use;
  ConvActivation activation;
  Precision precision;  // of float32
};

// Bytes from one expert's filter to the next in the packed form: KRSC in the images' format.
inline size_t packed_filter_stride(const Conv2dGeometry& g) {
  return packed_stride(static_cast<size_t>(g.filter_size()) * size_of(g.dtype));
}

// The values of the filters as they are: bfloat16 master filters have to be rounded yet.
template <class Grouped>
ConvProduct conv_product(const Grouped& a, Precision precision) {
  const Conv2dGeometry& g = a.geometry;
  ConvProduct p{};
  p.filters = a.filters;
  p.filter_stride = a.form == FilterForm::krsc
                        ? g.filter_size()
                        : static_cast<int64_t>(packed_filter_stride(g) / size_of(g.dtype));
  p.offsets = a.offsets;
  p.n = a.n;
  p.experts = a.experts;
  p.geometry = g;
  p.precision = precision;
  if constexpr (requires { a.y; }) {
    p.from = a.x;
    p.bias = a.bias;
    p.residual = a.residual;
    p.to = a.y;
    p.from_shape = x_shape(g);
    p.to_shape = y_shape(g);
    p.use = FilterUse::forward;
    p.activation = a.activation;
  } else {
    p.from = a.d_y;
    p.residual = a.added;
    p.mask = a.mask;
    p.to = a.d_x;
    p.from_shape = y_shape(g);
    p.to_shape = x_shape(g);
    p.use = FilterUse::input_grad;
  }
  return p;
}

// Pixels of the result that meet the same taps: all of them in the forward product. In the input
// gradient with a stride, taps that reach a pixel are those whose row is a (mod stride) and whose
// column is b, with a and b what the pixel's own row and column leave, plus the padding: stride^2
// classes, and no product with a zero between the pixels of y.
struct PixelClass {
  int rows, columns;        // the class's pixels of an image:
  int top, left, spacing;   // (j, i) is pixel (top + j · spacing, left + i · spacing)
  int from_top, from_left;  // Its tap (t, s) is on pixel
  int stride;  // (from_top + j · stride ± t, from_left + i · stride ± s), + forward,
  int tap_rows, tap_columns;
  int first_u, first_v, tap_spacing;  // with (first_u + t · tap_spacing, …) of the filter

  constexpr int pixels() const { return rows * columns; }
  constexpr int taps() const { return tap_rows * tap_columns; }
};

constexpr int pixel_classes(const ConvProduct& a) {
  return a.use == FilterUse::forward ? 1 : a.geometry.stride * a.geometry.stride;
}

// Class `number` along one axis: pixels, first pixel, first source pixel and taps.
struct AxisClass {
  int pixels, first, from, taps;
};
constexpr AxisClass axis_class(int extent, int taps, int stride, int padding, int number) {
  const int first = ((number - padding) % stride + stride) % stride;
  return {first < extent ? (extent - first + stride - 1) / stride : 0, first,
          (first + padding - number) / stride,
          number < taps ? (taps - number + stride - 1) / stride : 0};
}

constexpr PixelClass pixel_class(const ConvProduct& a, int number) {
  const Conv2dGeometry& g = a.geometry;
  if (a.use == FilterUse::forward)
    return {a.to_shape.height,
            a.to_shape.width,
            0,
            0,
            1,
            -g.padding,
            -g.padding,
            g.stride,
            g.r,
            g.s,
            0,
            0,
            1};
  const int u = number / g.stride, v = number % g.stride;
  const AxisClass y = axis_class(g.height, g.r, g.stride, g.padding, u),
                  x = axis_class(g.width, g.s, g.stride, g.padding, v);
  return {y.pixels, x.pixels, y.first, x.first, g.stride, y.from,  x.from,
          1,        y.taps,   x.taps,  u,       v,        g.stride};
}

// Numbers of three digits, (tap row, tap column, channel) or (image, row, column): `low` and
// `middle` are how many values those digits have. The first is not bounded.
struct Digits {
  int high, middle, low;
};
struct Radix {
  int middle, low;
  constexpr Digits digits(int number) const {
    const int rest = number / low;
    return {rest / middle, rest % middle, number - rest * low};
  }
  constexpr Digits sum(Digits a, Digits b) const {
    Digits c{a.high + b.high, a.middle + b.middle, a.low + b.low};
    if (c.low >= low) c.low -= low, ++c.middle;
    if (c.middle >= middle) c.middle -= middle, ++c.high;
    return c;
  }
};

// The digits of a term of the sum. A class without taps has no terms, and any digits.
constexpr Radix term_radix(const PixelClass& c, int channels) {
  return {c.tap_columns > 0 ? c.tap_columns : 1, channels};
}
constexpr Radix pixel_radix(const PixelClass& c) { return {c.rows, c.columns}; }

// The pixel of the result, counted through all images, that is row `row` of the class's product.
constexpr int64_t pixel_of(const PixelClass& c, const ImageShape& to, int row) {
  if (c.spacing == 1) return row;
  const Digits at = pixel_radix(c).digits(row);
  return (int64_t{at.high} * to.height + c.top + at.middle * c.spacing) * to.width + c.left +
         at.low * c.spacing;
}

}  // namespace moat::kernels
