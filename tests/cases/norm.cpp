#include "engine/ops/norm.h"

#include <cmath>

#include "engine/ops/elementwise.h"
#include "engine/ops/layer_norm.h"
#include "tests/op_case.h"

namespace moat::tests {

namespace {

using engine::Activation;

enum class Mode { train, eval };
enum class Parts { plain, affine, affine_residual };

// inputs: x, gamma, beta, residual, running mean, running var; undefined where a part is absent.
struct Row {
  Mode mode;
  Shape shape;
  Parts parts;
  Activation activation;
};

Tensors reference(const Row& row, const Tensors& in) {
  const Tensor &x = in[0], y = Tensor::empty(x.shape(), Dtype::f64);
  const int64_t c = x.shape().back(), n = x.size() / c;
  for (int64_t j = 0; j < c; ++j) {
    double mean = 0, var = 0;
    if (row.mode == Mode::eval) {
      mean = f64(in[4])[j];
      var = f64(in[5])[j];
    } else {
      for (int64_t i = 0; i < n; ++i) mean += f64(x)[i * c + j] / double(n);
      for (int64_t i = 0; i < n; ++i)
        var += (f64(x)[i * c + j] - mean) * (f64(x)[i * c + j] - mean) / double(n);
    }
    for (int64_t i = 0; i < n; ++i) {
      double v = (f64(x)[i * c + j] - mean) / std::sqrt(var + 1e-5);
      if (in[1].defined()) v = v * f64(in[1])[j] + f64(in[2])[j];
      if (in[3].defined()) v += f64(in[3])[i * c + j];
      f64(y)[i * c + j] = row.activation == Activation::relu && v < 0 ? 0 : v;
    }
  }
  return {y};
}

OpCase norm_case(const Row& row) {
  const auto inputs = [=] {
    const Shape channels = {row.shape.back()};
    Tensors in = {randn(row.shape, 1), {}, {}, {}, {}, {}};
    if (row.mode == Mode::eval) {
      in[4] = randn(channels, 5);
      in[5] = randn(channels, 6);
      for (int64_t j = 0; j < channels[0]; ++j) f64(in[5])[j] = 0.5 + std::abs(f64(in[5])[j]);
    }
    if (row.parts != Parts::plain) {
      in[1] = randn(channels, 2);
      in[2] = randn(channels, 3);
    }
    if (row.parts == Parts::affine_residual) in[3] = randn(row.shape, 4);
    return in;
  };
  std::vector<int> differentiable = {0};
  if (row.parts != Parts::plain) differentiable = {0, 1, 2};
  if (row.parts == Parts::affine_residual) differentiable.push_back(3);
  const char* mode = row.mode == Mode::train ? "batch_norm_train " : "batch_norm_eval ";
  const char* parts[] = {" plain", " affine", " affine residual"};
  return {.name = mode + row.shape.str() + parts[static_cast<int>(row.parts)] +
                  (row.activation == Activation::relu ? " relu" : ""),
          .inputs = inputs,
          .op = [row](const Tensors& in) -> Tensors {
            if (row.mode == Mode::eval)
              return {engine::batch_norm_eval(in[0], in[1], in[2], in[4], in[5], in[3],
                                              row.activation)};
            return {engine::batch_norm_train(in[0], in[1], in[2], {}, {}, in[3], row.activation)};
          },
          .reference = [row](const Tensors& in) { return reference(row, in); },
          .differentiable = differentiable,
          .keep_float32 = {1, 2, 4, 5},
          // A handful of float32 roundings; the gradient's sums cancel more.
          .f32 = 3e-6,
          // The result is rounded once, 2^-9; the gradient reads a rounded d_y.
          .bf16 = 0.004,
          .gradient = 1e-6,
          .bytes = (row.mode == Mode::train ? 12.0 : 8.0) * static_cast<double>(row.shape.count())};
}

// A norm alone, or added to what it is of, whose gradients then meet in its kernel.
enum class Shortcut { no, yes };

// x, gamma, beta; the last two undefined for a norm without affine.
Tensors layer_norm_reference(const Tensors& in, Shortcut shortcut) {
  const Tensor &x = in[0], y = Tensor::empty(x.shape(), Dtype::f64);
  const int64_t width = x.shape().back();
  for (int64_t at = 0; at < x.size(); at += width) {
    double mean = 0, var = 0;
    for (int64_t j = 0; j < width; ++j) mean += f64(x)[at + j] / double(width);
    for (int64_t j = 0; j < width; ++j)
      var += (f64(x)[at + j] - mean) * (f64(x)[at + j] - mean) / double(width);
    for (int64_t j = 0; j < width; ++j) {
      const double v = (f64(x)[at + j] - mean) / std::sqrt(var + 1e-6);
      f64(y)[at + j] = (in[1].defined() ? v * f64(in[1])[j] + f64(in[2])[j] : v) +
                       (shortcut == Shortcut::yes ? f64(x)[at + j] : 0);
    }
  }
  return {y};
}

OpCase layer_norm_case(const Shape& shape, Parts parts, Shortcut shortcut = Shortcut::no) {
  const Shape width = {shape.back()};
  const bool affine = parts == Parts::affine;
  return {.name = "layer_norm " + shape.str() + (affine ? " affine" : " plain") +
                  (shortcut == Shortcut::yes ? " beside a shortcut" : ""),
          .inputs =
              [=] {
                return Tensors{randn(shape, 1), affine ? randn(width, 2) : Tensor{},
                               affine ? randn(width, 3) : Tensor{}};
              },
          .op = [=](const Tensors& in) -> Tensors {
            const Tensor y = engine::layer_norm(in[0], in[1], in[2]);
            return {shortcut == Shortcut::yes ? engine::add(in[0], y) : y};
          },
          .reference = [=](const Tensors& in) { return layer_norm_reference(in, shortcut); },
          .differentiable = affine ? std::vector<int>{0, 1, 2} : std::vector<int>{0},
          .keep_float32 = {1, 2},
          // As for batch_norm.
          .f32 = 3e-6,
          .bf16 = shortcut == Shortcut::yes ? 0.008 : 0.004,  // a sum is rounded again
          .gradient = 1e-6,
          .bytes = 8.0 * static_cast<double>(shape.count())};
}

}  // namespace

std::vector<OpCase> norm_cases(Scale scale) {
  std::vector<OpCase> out;
  const auto relu = Activation::relu, none = Activation::none;
  for (Mode mode : {Mode::train, Mode::eval}) {
    if (scale == Scale::bench) {
      for (const Shape& shape : {Shape{128, 32, 32, 64}, {128, 8, 8, 16}, {128, 4, 4, 512}})
        for (Parts parts : {Parts::affine, Parts::affine_residual})
          out.push_back(norm_case({mode, shape, parts, relu}));
      continue;
    }
    for (const Shape& shape : {Shape{2, 3, 2, 4}, {7, 3}, {5, 2, 1}, {37, 33}})
      for (Parts parts : {Parts::plain, Parts::affine, Parts::affine_residual})
        for (Activation activation : {none, relu})
          out.push_back(norm_case({mode, shape, parts, activation}));
    out.push_back(
        norm_case({mode, {1030, 8}, Parts::affine_residual, relu}));    // two blocks of rows
    out.push_back(norm_case({mode, {130, 600}, Parts::affine, relu}));  // two tiles
  }
  if (scale == Scale::test) out.push_back(norm_case({Mode::eval, {1, 3}, Parts::affine, relu}));
  if (scale == Scale::test) out.push_back(norm_case({Mode::eval, {0, 4}, Parts::affine, relu}));
  if (scale == Scale::bench) {
    for (const Shape& shape : {Shape{128, 65, 192}, {64, 197, 384}})
      out.push_back(layer_norm_case(shape, Parts::affine));
    return out;
  }
  // Some rows, two blocks of them, rows longer than what a warp takes, a row, no row, a value.
  for (const Shape& shape : {Shape{3, 5, 24}, {130, 7}, {2, 2056}, {33}, {0, 4}})
    for (Parts parts : {Parts::plain, Parts::affine})
      for (Shortcut shortcut : {Shortcut::no, Shortcut::yes})
        out.push_back(layer_norm_case(shape, parts, shortcut));
  out.push_back(layer_norm_case({4, 1}, Parts::affine));
  return out;
}

}  // namespace moat::tests
