#include "engine/ops/reduce.h"

#include <cmath>

#include "tests/op_case.h"

namespace moat::tests {

namespace {

constexpr double kBf16 = 0.004;  // one rounding of the result, 2^-9, doubled

// f(values along the axis) for every position of the other axes.
template <class F>
Tensor along(const Tensor& x, int axis, F f) {
  int64_t outer = 1, inner = 1;
  Shape reduced;
  for (int i = 0; i < x.rank(); ++i) {
    if (i < axis) outer *= x.shape()[i];
    if (i > axis) inner *= x.shape()[i];
    if (i != axis) reduced.push_back(x.shape()[i]);
  }
  const int64_t n = x.shape()[axis];
  const Tensor y = Tensor::empty(reduced, Dtype::f64);
  for (int64_t o = 0; o < outer; ++o)
    for (int64_t i = 0; i < inner; ++i) {
      std::vector<double> values;
      for (int64_t a = 0; a < n; ++a) values.push_back(f64(x)[(o * n + a) * inner + i]);
      f64(y)[o * inner + i] = f(values);
    }
  return y;
}

double total(const std::vector<double>& values) {
  double s = 0;
  for (double v : values) s += v;
  return s;
}

double largest(const std::vector<double>& values) {
  double m = values.at(0);
  for (double v : values) m = v > m ? v : m;
  return m;
}

Tensor as_column(const Tensor& x) { return x.reshaped({x.size()}); }

OpCase base(const char* name, const Shape& shape) {
  return {.name = std::string(name) + " " + shape.str(),
          .inputs = [=] { return Tensors{randn(shape, 1)}; },
          .op = {},
          .reference = {},
          .differentiable = {0},
          .f32 = 2e-6,
          .bf16 = kBf16,
          .bytes = 4.0 * static_cast<double>(shape.count())};
}

void add_cases(std::vector<OpCase>& out, const Shape& shape, int axis) {
  OpCase c = base("sum", shape);
  c.name += " axis " + std::to_string(axis);
  c.op = [=](const Tensors& in) -> Tensors { return {engine::sum(in[0], axis - in[0].rank())}; };
  c.reference = [=](const Tensors& in) -> Tensors { return {along(in[0], axis, total)}; };
  out.push_back(c);
  if (shape[axis] == 0) return;
  c.name = "mean" + c.name.substr(3);
  c.op = [=](const Tensors& in) -> Tensors { return {engine::mean(in[0], axis)}; };
  c.reference = [=](const Tensors& in) -> Tensors {
    return {along(in[0], axis, [](const auto& v) { return total(v) / double(v.size()); })};
  };
  out.push_back(c);
  c.name = "max" + c.name.substr(4);
  c.op = [=](const Tensors& in) -> Tensors {
    return {engine::max(in[0], axis), engine::argmax(in[0], axis)};
  };
  c.reference = [=](const Tensors& in) -> Tensors {
    const Tensor index = along(in[0], axis, [](const auto& v) {
      double at = 0;
      for (size_t i = 0; i < v.size(); ++i)
        if (v[i] > v[size_t(at)]) at = double(i);
      return at;
    });
    return {along(in[0], axis, largest), index.to(Dtype::i32)};
  };
  out.push_back(c);
}

OpCase sum_to_case(const Shape& from, const Shape& to) {
  OpCase c = base("sum_to", from);
  c.name += " to " + to.str();
  c.op = [to](const Tensors& in) -> Tensors { return {engine::sum_to(in[0], to)}; };
  c.reference = [to](const Tensors& in) -> Tensors {
    const Tensor& x = in[0];
    const Tensor y = Tensor::zeros(to, Dtype::f64);
    for (int64_t at = 0; at < x.size(); ++at) {
      int64_t rest = at, offset = 0, run = 1;
      for (int i = x.rank() - 1, j = to.rank() - 1; i >= 0; --i, --j) {
        const int64_t index = rest % x.shape()[i];
        rest /= x.shape()[i];
        if (j < 0) continue;
        if (to[j] != 1) offset += index * run;
        run *= to[j];
      }
      f64(y)[offset] += f64(x)[at];
    }
    return {y};
  };
  return c;
}

OpCase whole(const char* name, const Shape& shape, bool average) {
  OpCase c = base(name, shape);
  c.op = [=](const Tensors& in) -> Tensors {
    return {average ? engine::mean(in[0]) : engine::sum(in[0])};
  };
  c.reference = [=](const Tensors& in) -> Tensors {
    return {along(as_column(in[0].contiguous()), 0,
                  [=](const auto& v) { return average ? total(v) / double(v.size()) : total(v); })};
  };
  return c;
}

}  // namespace

std::vector<OpCase> reduce_cases(Scale scale) {
  std::vector<OpCase> out;
  if (scale == Scale::bench) {
    out.push_back(whole("sum", {256, 32, 32, 32}, false));
    add_cases(out, {262144, 32}, 0);
    add_cases(out, {262144, 32}, 1);
    return out;
  }
  for (int axis : {0, 1, 2}) add_cases(out, {3, 5, 7}, axis);
  for (int axis : {0, 1}) {
    add_cases(out, {1, 1}, axis);
    add_cases(out, {0, 3}, axis);
  }
  add_cases(out, {200, 700}, 0);  // more columns than a tile, more rows than a block
  add_cases(out, {2, 1500, 50}, 1);
  for (const Shape& shape : {Shape{3, 5, 7}, {1}, {}, {140001}}) {
    out.push_back(whole("sum", shape, false));
    out.push_back(whole("mean", shape, true));
  }
  out.push_back(whole("sum", {0, 2}, false));
  out.push_back(sum_to_case({4, 5}, {5}));
  out.push_back(sum_to_case({4, 5}, {4, 1}));
  out.push_back(sum_to_case({2, 3, 4, 5}, {3, 1, 5}));
  out.push_back(sum_to_case({2, 3, 4}, {}));
  out.push_back(sum_to_case({1, 3}, {3}));
  out.push_back(sum_to_case({2, 3}, {2, 3}));
  out.push_back(sum_to_case({0, 3}, {3}));
  return out;
}

}  // namespace moat::tests
