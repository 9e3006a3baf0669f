#include "engine/ops/vision.h"

#include <algorithm>

#include "tests/cases/conv_reference.h"
#include "tests/op_case.h"

namespace moat::tests {

using namespace engine;

namespace {

struct ConvShape {
  int64_t n, h, w, c_in, c_out, r, s;
  Conv2dOptions options;
};

std::string name_of(const char* op, const ConvShape& c) {
  return text(op, " ", c.n, "x", c.h, "x", c.w, " ", c.c_in, "->", c.c_out, " ", c.r, "x", c.s,
              " stride ", c.options.stride, " padding ", c.options.padding);
}

double flops_of(const ConvShape& c) {
  const Tensor y = Tensor::empty({(c.h + 2 * c.options.padding - c.r) / c.options.stride + 1,
                                  (c.w + 2 * c.options.padding - c.s) / c.options.stride + 1});
  return 2.0 * double(c.n * y.size() * c.c_out * c.c_in * c.r * c.s);
}

OpCase conv_case(const ConvShape& c) {
  return {.name = name_of("conv2d", c),
          .inputs =
              [=] {
                return Tensors{randn({c.n, c.h, c.w, c.c_in}, 1),
                               randn({c.c_out, c.r, c.s, c.c_in}, 2)};
              },
          .op = [c](const Tensors& in) -> Tensors { return {conv2d(in[0], in[1], c.options)}; },
          .reference = [c](const Tensors& in) -> Tensors {
            return {reference_conv(in[0], in[1], c.options)};
          },
          .differentiable = {0, 1},
          .keep_float32 = {1},
          .bound = [c](const Tensors& in) -> Tensors {
            return {reference_conv(in[0], in[1], c.options, Terms::magnitudes)};
          },
          .f64 = kProductF64,
          .f32 = kProductF32,
          .bf16 = product_bf16(),
          .flops = flops_of(c)};
}

// Inputs: x, residual (or undefined), filter, bias.
OpCase packed_case(const ConvShape& c, bool residual, Activation activation) {
  const auto sums = [c](const Tensors& in, Terms terms) {
    Tensor y = reference_conv(in[0], in[2], c.options, terms);
    const auto term = [&](double v) { return terms == Terms::magnitudes ? std::abs(v) : v; };
    for (int64_t i = 0; i < y.size(); ++i)
      f64(y)[i] += term(f64(in[3])[i % y.dim(3)]) + (in[1].defined() ? term(f64(in[1])[i]) : 0);
    return y;
  };
  const Shape y{c.n, (c.h + 2 * c.options.padding - c.r) / c.options.stride + 1,
                (c.w + 2 * c.options.padding - c.s) / c.options.stride + 1, c.c_out};
  return {.name = name_of("conv2d_packed", c) + (residual ? " residual" : "") +
                  (activation == Activation::relu ? " relu" : ""),
          .inputs =
              [=] {
                return Tensors{randn({c.n, c.h, c.w, c.c_in}, 1), residual ? randn(y, 4) : Tensor{},
                               randn({c.c_out, c.r, c.s, c.c_in}, 2), randn({c.c_out}, 3)};
              },
          .op = [c, activation](const Tensors& in) -> Tensors {
            const PackedConv2d packed =
                pack_conv2d(in[2], in[3], c.options, int(c.h), int(c.w), in[0].dtype());
            return {conv2d_packed(in[0], packed, in[1], activation)};
          },
          .reference = [=](const Tensors& in) -> Tensors {
            Tensor out = sums(in, Terms::signed_values);
            if (activation == Activation::relu)
              for (int64_t i = 0; i < out.size(); ++i) f64(out)[i] = std::max(f64(out)[i], 0.0);
            return {out};
          },
          .differentiable = residual ? std::vector<int>{0, 1} : std::vector<int>{0},
          .keep_float32 = {2, 3},
          .bound = [=](const Tensors& in) -> Tensors { return {sums(in, Terms::magnitudes)}; },
          .f64 = kProductF64,
          .f32 = kProductF32,
          .bf16 = product_bf16(),
          .flops = flops_of(c)};
}

// A reduction over windows: reduce(values of a window) -> value.
template <class Reduce>
Tensor over_windows(const Tensor& x, int64_t window_h, int64_t window_w, int64_t stride,
                    int64_t padding, Reduce&& reduce) {
  const int64_t n = x.dim(0), h = x.dim(1), w = x.dim(2), c = x.dim(3);
  const int64_t rows = (h + 2 * padding - window_h) / stride + 1,
                columns = (w + 2 * padding - window_w) / stride + 1;
  Tensor y = Tensor::empty({n, rows, columns, c}, Dtype::f64);
  double* out = f64(y);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t p = 0; p < rows; ++p)
      for (int64_t q = 0; q < columns; ++q)
        for (int64_t k = 0; k < c; ++k) {
          std::vector<double> seen;
          for (int64_t row = p * stride - padding; row < p * stride - padding + window_h; ++row)
            for (int64_t col = q * stride - padding; col < q * stride - padding + window_w; ++col)
              if (row >= 0 && row < h && col >= 0 && col < w)
                seen.push_back(f64(x)[((i * h + row) * w + col) * c + k]);
          *out++ = reduce(seen);
        }
  return y;
}

double mean_of(const std::vector<double>& values) {
  double s = 0;
  for (double v : values) s += v;
  return s / double(values.size());
}

OpCase max_pool_case(const Shape& shape, int window, int stride, int padding) {
  return {.name = text("max_pool2d ", shape.str(), " ", window, "/", stride, "+", padding),
          .inputs = [=] { return Tensors{randn(shape, 1)}; },
          .op = [=](const Tensors& in) -> Tensors {
            return {max_pool2d(in[0], window, stride, padding)};
          },
          .reference = [=](const Tensors& in) -> Tensors {
            return {over_windows(in[0], window, window, stride, padding, [](const auto& values) {
              return *std::max_element(values.begin(), values.end());
            })};
          },
          .differentiable = {0},
          .f64 = 0,  // a selection
          .f32 = 1e-7,
          .bf16 = 0.004,
          .bytes = 4.0 * double(shape.count())};
}

OpCase avg_pool_case(const Shape& shape, int window, int stride) {
  return {.name = text("avg_pool2d ", shape.str(), " ", window, "/", stride),
          .inputs = [=] { return Tensors{randn(shape, 1)}; },
          .op = [=](const Tensors& in) -> Tensors { return {avg_pool2d(in[0], window, stride)}; },
          .reference = [=](const Tensors& in) -> Tensors {
            return {over_windows(in[0], window, window, stride, 0, mean_of)};
          },
          .differentiable = {0},
          .bf16 = 0.004,
          .bytes = 4.0 * double(shape.count())};
}

OpCase global_pool_case(const Shape& shape) {
  return {.name = text("global_avg_pool ", shape.str()),
          .inputs = [=] { return Tensors{randn(shape, 1)}; },
          .op = [](const Tensors& in) -> Tensors { return {global_avg_pool(in[0])}; },
          .reference = [](const Tensors& in) -> Tensors {
            return {over_windows(in[0], in[0].dim(1), in[0].dim(2), 1, 0, mean_of)
                        .reshaped({in[0].dim(0), in[0].dim(3)})};
          },
          .differentiable = {0},
          .bf16 = 0.004,
          .bytes = 4.0 * double(shape.count())};
}

OpCase subsample_case(const Shape& shape, int stride, int c_out) {
  return {.name = text("subsample_pad ", shape.str(), " /", stride, " -> ", c_out),
          .inputs = [=] { return Tensors{randn(shape, 1)}; },
          .op = [=](const Tensors& in) -> Tensors { return {subsample_pad(in[0], stride, c_out)}; },
          .reference = [=](const Tensors& in) -> Tensors {
            const Tensor& x = in[0];
            const int64_t h = x.dim(1), w = x.dim(2), c = x.dim(3), front = (c_out - c) / 2;
            Tensor y = Tensor::zeros(
                {x.dim(0), (h + stride - 1) / stride, (w + stride - 1) / stride, c_out},
                Dtype::f64);
            double* out = f64(y);
            for (int64_t i = 0; i < x.dim(0); ++i)
              for (int64_t row = 0; row < h; row += stride)
                for (int64_t col = 0; col < w; col += stride, out += c_out)
                  for (int64_t k = 0; k < c; ++k)
                    out[front + k] = f64(x)[((i * h + row) * w + col) * c + k];
            return {y};
          },
          .differentiable = {0},
          .f64 = 0,  // a copy
          .f32 = 1e-7,
          .bf16 = 0.004,
          .bytes = 4.0 * double(shape.count())};
}

}  // namespace

std::vector<OpCase> vision_cases(Scale scale) {
  const auto same = [](int64_t n, int64_t h, int64_t c_in, int64_t c_out) {
    return ConvShape{n, h, h, c_in, c_out, 3, 3, {.stride = 1, .padding = 1}};
  };
  if (scale == Scale::bench)
    return {conv_case(same(128, 32, 64, 64)),
            conv_case(same(128, 16, 128, 128)),
            conv_case(same(128, 8, 256, 256)),
            conv_case(same(128, 4, 512, 512)),
            packed_case(same(128, 32, 64, 64), true, Activation::relu),
            conv_case(same(128, 8, 1, 16)),
            conv_case(same(128, 8, 16, 16)),
            conv_case(same(128, 4, 32, 32)),
            conv_case(same(128, 2, 64, 64)),
            max_pool_case({128, 32, 32, 64}, 2, 2, 0),
            avg_pool_case({128, 32, 32, 64}, 2, 2),
            global_pool_case({128, 4, 4, 512}),
            subsample_case({128, 32, 32, 64}, 2, 128)};
  const ConvShape odd{3, 9, 7, 5, 13, 3, 3, {.stride = 2, .padding = 1}};
  return {conv_case(same(4, 8, 16, 16)),
          conv_case(odd),
          conv_case({5, 6, 5, 3, 4, 1, 1, {.stride = 2, .padding = 0}}),
          conv_case({2, 7, 9, 2, 3, 5, 3, {.stride = 1, .padding = 2}}),
          conv_case({1, 1, 1, 1, 1, 1, 1, {}}),
          conv_case(same(0, 4, 3, 2)),
          packed_case(same(3, 6, 8, 8), true, Activation::relu),
          packed_case(odd, false, Activation::relu),
          packed_case(odd, true, Activation::none),
          packed_case(same(0, 4, 3, 2), false, Activation::none),
          packed_case({1, 1, 1, 1, 1, 1, 1, {}}, false, Activation::relu),
          max_pool_case({2, 8, 6, 70}, 2, 2, 0),
          max_pool_case({3, 7, 5, 3}, 3, 2, 1),
          max_pool_case({0, 4, 4, 3}, 2, 2, 0),
          max_pool_case({1, 1, 1, 1}, 1, 1, 0),
          avg_pool_case({2, 8, 6, 70}, 2, 2),
          avg_pool_case({2, 7, 5, 3}, 3, 1),
          avg_pool_case({0, 4, 4, 3}, 2, 2),
          avg_pool_case({1, 1, 1, 1}, 1, 1),
          global_pool_case({3, 4, 5, 7}),
          global_pool_case({0, 4, 4, 3}),
          global_pool_case({1, 1, 1, 1}),
          subsample_case({2, 8, 8, 4}, 2, 8),
          subsample_case({3, 7, 5, 3}, 2, 6),
          subsample_case({0, 4, 4, 3}, 2, 6),
          subsample_case({1, 1, 1, 1}, 1, 1)};
}

}  // namespace moat::tests
