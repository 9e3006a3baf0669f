#include "engine/ops/elementwise.h"

#include <cmath>

#include "tests/op_case.h"

namespace moat::tests {

namespace {

// A stored bfloat16 is within 2^-9 of its value; gradients round once or twice more.
constexpr double kBf16 = 0.004;

struct UnaryRow {
  const char* name;
  Tensor (*op)(const Tensor&);
  double (*value)(double);
  bool positive = false;  // the domain
};

const UnaryRow kUnary[] = {
    {"relu", engine::relu, [](double x) { return x > 0 ? x : 0.0; }},
    {"exp", engine::exp, [](double x) { return std::exp(x); }},
    {"log", engine::log, [](double x) { return std::log(x); }, true},
    {"sqrt", engine::sqrt, [](double x) { return std::sqrt(x); }, true},
    {"square", engine::square, [](double x) { return x * x; }},
    {"abs", engine::abs, [](double x) { return x < 0 ? -x : x; }},
    {"sign", engine::sign, [](double x) { return double((x > 0) - (x < 0)); }},
    {"tanh", engine::tanh, [](double x) { return (std::exp(2 * x) - 1) / (std::exp(2 * x) + 1); }},
    {"clamp", [](const Tensor& x) { return engine::clamp(x, -0.5, 0.75); },
     [](double x) { return std::min(std::max(x, -0.5), 0.75); }},
    {"affine", [](const Tensor& x) { return engine::affine(x, -1.5, 0.25); },
     [](double x) { return -1.5 * x + 0.25; }},
};

OpCase unary_case(const UnaryRow& row, const Shape& shape) {
  return {.name = std::string(row.name) + " " + shape.str(),
          .inputs =
              [=] {
                const Tensor x = randn(shape, 1);
                if (row.positive)
                  for (int64_t i = 0; i < x.size(); ++i) f64(x)[i] = 0.25 + f64(x)[i] * f64(x)[i];
                return Tensors{x};
              },
          .op = [op = row.op](const Tensors& in) -> Tensors { return {op(in[0])}; },
          .reference = [value = row.value](const Tensors& in) -> Tensors {
            const Tensor y = Tensor::empty(in[0].shape(), Dtype::f64);
            for (int64_t i = 0; i < y.size(); ++i) f64(y)[i] = value(f64(in[0])[i]);
            return {y};
          },
          .differentiable = {0},
          .bf16 = kBf16,
          .bytes = 8.0 * static_cast<double>(shape.count())};
}

struct BinaryRow {
  const char* name;
  Tensor (*op)(const Tensor&, const Tensor&);
  double (*value)(double, double);
};

const BinaryRow kBinary[] = {
    {"add", engine::add, [](double a, double b) { return a + b; }},
    {"sub", engine::sub, [](double a, double b) { return a - b; }},
    {"mul", engine::mul, [](double a, double b) { return a * b; }},
    {"div", engine::div, [](double a, double b) { return a / b; }},
    {"maximum", engine::maximum, [](double a, double b) { return a > b ? a : b; }},
};

// The element of a broadcast operand that belongs to the flat index `at` of `shape`.
double broadcast_at(const Tensor& t, const Shape& shape, int64_t at) {
  int64_t offset = 0, run = 1;
  for (int i = shape.rank() - 1; i >= 0; --i) {
    const int64_t index = at % shape[i];
    at /= shape[i];
    const int own = i - (shape.rank() - t.rank());
    if (own < 0) continue;
    if (t.shape()[own] != 1) offset += index * run;
    run *= t.shape()[own];
  }
  return f64(t)[offset];
}

OpCase binary_case(const BinaryRow& row, const Shape& a_shape, const Shape& b_shape) {
  const Shape shape = engine::broadcast(a_shape, b_shape);
  return {.name = std::string(row.name) + " " + a_shape.str() + " " + b_shape.str(),
          .inputs =
              [=] {
                const Tensor a = randn(a_shape, 1), b = randn(b_shape, 2);
                for (int64_t i = 0; i < b.size(); ++i)
                  f64(b)[i] += f64(b)[i] < 0 ? -0.5 : 0.5;  // for div
                return Tensors{a, b};
              },
          .op = [op = row.op](const Tensors& in) -> Tensors { return {op(in[0], in[1])}; },
          .reference = [value = row.value, shape](const Tensors& in) -> Tensors {
            const Tensor y = Tensor::empty(shape, Dtype::f64);
            for (int64_t i = 0; i < y.size(); ++i)
              f64(y)[i] = value(broadcast_at(in[0], shape, i), broadcast_at(in[1], shape, i));
            return {y};
          },
          .differentiable = {0, 1},
          // The gradient of a quotient sums products of three rounded numbers, with cancellation.
          .bf16 = row.op == engine::div ? 3 * kBf16 : kBf16,
          .bytes = 4.0 * static_cast<double>(a_shape.count() + b_shape.count() + shape.count())};
}

OpCase cast_case() {
  return {.name = "cast to float32",
          .inputs =
              [=] {
                return Tensors{randn({5, 3})};
              },
          .op = [](const Tensors& in) -> Tensors { return {engine::cast(in[0], Dtype::f32)}; },
          .reference = [](const Tensors& in) -> Tensors {
            const Tensor y = Tensor::empty(in[0].shape(), Dtype::f64);
            for (int64_t i = 0; i < y.size(); ++i) f64(y)[i] = static_cast<float>(f64(in[0])[i]);
            return {y};
          },
          .differentiable = {0},
          .bf16 = kBf16,
          // Differences of float32 values at a step of 1e-6 are only good to a few percent.
          .gradient = 0.2};
}

}  // namespace

std::vector<OpCase> elementwise_cases(Scale scale) {
  std::vector<OpCase> out;
  if (scale == Scale::bench) {
    const Shape large = {256, 32, 32, 32};
    for (const UnaryRow& row : kUnary) out.push_back(unary_case(row, large));
    for (const BinaryRow& row : kBinary)
      for (const Shape& b : {large, Shape{32}, Shape{}}) out.push_back(binary_case(row, large, b));
    return out;
  }
  for (const UnaryRow& row : kUnary)
    for (const Shape& shape : {Shape{3, 5, 7}, {1}, {0, 4}, {}}) {
      out.push_back(unary_case(row, shape));
    }
  const std::pair<Shape, Shape> pairs[] = {
      {{4, 5}, {4, 5}}, {{4, 5}, {5}},       {{4, 1}, {1, 5}},
      {{}, {3, 7}},     {{3, 7}, {}},        {{2, 3, 4, 5}, {1, 3, 1, 5}},
      {{0, 3}, {3}},    {{2, 1, 3}, {5, 1}}, {{1}, {1, 1}},
  };
  for (const BinaryRow& row : kBinary)
    for (const auto& [a, b] : pairs) out.push_back(binary_case(row, a, b));
  // Several grains of work, so that a thread starts in the middle of the broadcast rows.
  out.push_back(binary_case(kBinary[0], {123, 7, 41}, {7, 1}));
  out.push_back(cast_case());
  return out;
}

}  // namespace moat::tests
