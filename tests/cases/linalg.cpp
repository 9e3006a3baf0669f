#include "engine/ops/linalg.h"

#include <cmath>

#include "kernels/library/context.h"
#include "tests/cases/conv_reference.h"
#include "tests/op_case.h"

namespace moat::tests {

using namespace engine;

double product_bf16() { return kernels::supports(kernels::Cpu{}, Dtype::bf16) ? kProductBf16 : 0; }

namespace {

// a [m, k] · b, b being [k, n] or, by_rows, [n, k].
enum class Order { by_columns, by_rows };
Tensor reference_product(const Tensor& a, const Tensor& b, Order order, Terms terms) {
  const int64_t m = a.dim(0), k = a.dim(1), n = b.dim(order == Order::by_rows ? 0 : 1);
  Tensor y = Tensor::zeros({m, n}, Dtype::f64);
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j)
      for (int64_t p = 0; p < k; ++p) {
        const double term =
            f64(a)[i * k + p] * f64(b)[order == Order::by_rows ? j * k + p : p * n + j];
        f64(y)[i * n + j] += terms == Terms::magnitudes ? std::abs(term) : term;
      }
  return y;
}

OpCase matmul_case(int64_t m, int64_t k, int64_t n) {
  const auto product = [](Terms terms) {
    return [terms](const Tensors& in) -> Tensors {
      return {reference_product(in[0], in[1], Order::by_columns, terms)};
    };
  };
  return {.name = text("matmul ", m, "x", k, "x", n),
          .inputs =
              [=] {
                return Tensors{randn({m, k}, 1), randn({k, n}, 2)};
              },
          .op = [](const Tensors& in) -> Tensors { return {matmul(in[0], in[1])}; },
          .reference = product(Terms::signed_values),
          .differentiable = {0, 1},
          .bound = product(Terms::magnitudes),
          .f64 = kProductF64,
          .f32 = kProductF32,
          .bf16 = product_bf16(),
          .bytes = 4.0 * double(m * k + k * n + m * n),
          .flops = 2.0 * double(m * k * n)};
}

// What is added to the product.
struct Addends {
  bool bias = false, residual = false;
};
OpCase linear_case(int64_t rows, int64_t in, int64_t out, Addends with) {
  const auto product = [with](Terms terms) {
    return [terms, with](const Tensors& inputs) -> Tensors {
      Tensor y = reference_product(inputs[0], inputs[1], Order::by_rows, terms);
      for (int64_t i = 0; i < y.size(); ++i) {
        const double b = with.bias ? f64(inputs[2])[i % y.dim(1)] : 0.0,
                     r = with.residual ? f64(inputs[3])[i] : 0.0;
        f64(y)[i] += terms == Terms::magnitudes ? std::abs(b) + std::abs(r) : b + r;
      }
      return {y};
    };
  };
  std::vector<int> differentiable = {0, 1};
  if (with.bias) differentiable.push_back(2);
  if (with.residual) differentiable.push_back(3);
  return {.name = text("linear ", rows, "x", in, "x", out, with.bias ? " bias" : "",
                       with.residual ? " residual" : ""),
          .inputs =
              [=] {
                return Tensors{randn({rows, in}, 1), randn({out, in}, 2),
                               with.bias ? randn({out}, 3) : Tensor{},
                               with.residual ? randn({rows, out}, 4) : Tensor{}};
              },
          .op = [](const Tensors& x) -> Tensors { return {linear(x[0], x[1], x[2], x[3])}; },
          .reference = product(Terms::signed_values),
          .differentiable = differentiable,
          .keep_float32 = {1, 2},
          .bound = product(Terms::magnitudes),
          .f64 = kProductF64,
          .f32 = kProductF32,
          .bf16 = product_bf16(),
          .bytes = 4.0 * double(rows * in + in * out + rows * out),
          .flops = 2.0 * double(rows * in * out)};
}

}  // namespace

std::vector<OpCase> linalg_cases(Scale scale) {
  if (scale == Scale::bench)
    return {matmul_case(1024, 1024, 1024), linear_case(8192, 384, 1536, {.bias = true}),
            linear_case(8192, 1536, 384, {.bias = true, .residual = true}),
            linear_case(128, 512, 10, {.bias = true})};
  return {matmul_case(5, 7, 3),
          matmul_case(1, 1, 1),
          matmul_case(0, 4, 3),
          matmul_case(3, 0, 2),
          matmul_case(130, 33, 300),
          linear_case(128, 64, 10, {.bias = true}),
          linear_case(65, 31, 17, {}),
          linear_case(1, 5, 1, {.bias = true}),
          linear_case(0, 5, 2, {.bias = true}),
          linear_case(130, 33, 300, {.bias = true, .residual = true}),
          linear_case(65, 31, 17, {.residual = true}),
          linear_case(3, 0, 2, {.bias = true, .residual = true}),
          linear_case(64, 8, 5, {.bias = true, .residual = true})};
}

}  // namespace moat::tests
