#include "engine/ops/shape.h"

#include "tests/op_case.h"

namespace moat::tests {

namespace {

// Values are copied, but the gradient checks start from seeds rounded to the dtype: 2^-24 and 2^-9.
constexpr double kF32 = 1e-7, kBf16 = 0.001;

Tensor copied(const Tensor& x, const Shape& shape) {
  const Tensor y = Tensor::empty(shape, Dtype::f64);
  for (int64_t i = 0; i < x.size(); ++i) f64(y)[i] = f64(x)[i];
  return y;
}

OpCase base(const std::string& name, const std::function<Tensors()>& inputs) {
  return {.name = name,
          .inputs = inputs,
          .op = {},
          .reference = {},
          .differentiable = {0},
          .f64 = 0,
          .f32 = kF32,
          .bf16 = kBf16};
}

OpCase reshape_case(const Shape& from, const Shape& to) {
  OpCase c =
      base("reshape " + from.str() + " to " + to.str(), [=] { return Tensors{randn(from)}; });
  c.op = [to](const Tensors& in) -> Tensors { return {engine::reshape(in[0], to)}; };
  Shape full = to;
  int64_t known = 1;
  for (int64_t extent : to) known *= extent == -1 ? 1 : extent;
  for (int i = 0; i < full.rank(); ++i)
    if (full[i] == -1) full[i] = from.count() / known;
  c.reference = [full](const Tensors& in) -> Tensors { return {copied(in[0], full)}; };
  return c;
}

OpCase permute_case(const Shape& shape) {
  OpCase c = base("permute " + shape.str(), [=] { return Tensors{randn(shape)}; });
  c.op = [](const Tensors& in) -> Tensors { return {engine::permute(in[0], {2, 0, 1})}; };
  c.reference = [](const Tensors& in) -> Tensors {
    const Shape& s = in[0].shape();
    const Tensor y = Tensor::empty({s[2], s[0], s[1]}, Dtype::f64);
    for (int64_t i = 0; i < s[0]; ++i)
      for (int64_t j = 0; j < s[1]; ++j)
        for (int64_t k = 0; k < s[2]; ++k)
          f64(y)[(k * s[0] + i) * s[1] + j] = f64(in[0])[(i * s[1] + j) * s[2] + k];
    return {y};
  };
  return c;
}

OpCase slice_case(int64_t from, int64_t to) {
  OpCase c = base("slice " + Shape{from, to}.str(), [] { return Tensors{randn({3, 6, 2})}; });
  c.op = [=](const Tensors& in) -> Tensors { return {engine::slice(in[0], -2, from, to)}; };
  c.reference = [=](const Tensors& in) -> Tensors {
    const Tensor y = Tensor::empty({3, to - from, 2}, Dtype::f64);
    for (int64_t i = 0; i < 3; ++i)
      for (int64_t j = from; j < to; ++j)
        for (int64_t k = 0; k < 2; ++k)
          f64(y)[(i * (to - from) + j - from) * 2 + k] = f64(in[0])[(i * 6 + j) * 2 + k];
    return {y};
  };
  return c;
}

OpCase concat_case(int64_t first, int64_t second) {
  OpCase c = base("concat " + Shape{first, second}.str(), [=] {
    return Tensors{randn({2, first, 3}, 1), randn({2, second, 3}, 2)};
  });
  c.differentiable = {0, 1};
  c.op = [](const Tensors& in) -> Tensors { return {engine::concat(in, 1)}; };
  c.reference = [=](const Tensors& in) -> Tensors {
    const Tensor y = Tensor::empty({2, first + second, 3}, Dtype::f64);
    for (int64_t i = 0; i < 2; ++i)
      for (int64_t j = 0; j < first + second; ++j)
        for (int64_t k = 0; k < 3; ++k)
          f64(y)[(i * (first + second) + j) * 3 + k] =
              j < first ? f64(in[0])[(i * first + j) * 3 + k]
                        : f64(in[1])[(i * second + j - first) * 3 + k];
    return {y};
  };
  return c;
}

OpCase gather_case(const Shape& shape, int rows) {
  OpCase c = base("gather_rows " + shape.str() + " " + std::to_string(rows), [=] {
    return Tensors{randn(shape), rand_ints({rows}, 0, static_cast<int>(shape[0]))};
  });
  c.op = [](const Tensors& in) -> Tensors { return {engine::gather_rows(in[0], in[1])}; };
  c.reference = [](const Tensors& in) -> Tensors {
    const Tensor &x = in[0], &index = in[1];
    Shape to = x.shape();
    const int64_t width = x.size() / x.dim(0);
    to[0] = index.size();
    const Tensor y = Tensor::empty(to, Dtype::f64);
    for (int64_t i = 0; i < index.size(); ++i)
      for (int64_t j = 0; j < width; ++j)
        f64(y)[i * width + j] = f64(x)[index.data_as<int32_t>()[i] * width + j];
    return {y};
  };
  c.bytes = 8.0 * static_cast<double>(rows * shape.count() / shape[0]);
  return c;
}

}  // namespace

std::vector<OpCase> shape_cases(Scale scale) {
  if (scale == Scale::bench) return {gather_case({512, 32, 32, 16}, 512)};
  return {reshape_case({4, 6}, {3, 8}),
          reshape_case({2, 3, 4}, {-1, 4}),
          reshape_case({1}, {}),
          reshape_case({0, 3}, {3, 0}),
          permute_case({2, 3, 5}),
          permute_case({1, 1, 1}),
          permute_case({3, 0, 2}),
          slice_case(1, 5),
          slice_case(0, 6),
          slice_case(2, 2),
          concat_case(2, 3),
          concat_case(0, 1),
          gather_case({5, 3}, 9),
          gather_case({7, 2, 3, 2}, 4),
          gather_case({1, 300}, 6),
          gather_case({4}, 11),
          gather_case({4, 3}, 0)};
}

}  // namespace moat::tests
