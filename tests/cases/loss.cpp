#include "engine/ops/loss.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/op_case.h"

namespace moat::tests {

using namespace engine;

namespace {

// log(softmax) of one row by the definition.
std::vector<double> log_softmax_row(const double* z, int64_t n) {
  double max = -std::numeric_limits<double>::infinity(), sum = 0;
  for (int64_t i = 0; i < n; ++i) max = std::max(max, z[i]);
  for (int64_t i = 0; i < n; ++i) sum += std::exp(z[i] - max);
  std::vector<double> out;
  for (int64_t i = 0; i < n; ++i) out.push_back(z[i] - max - std::log(sum));
  return out;
}

Tensor log_softmax_reference(const Tensor& x) {
  const Tensor y = Tensor::empty(x.shape(), Dtype::f64);
  const int64_t n = x.dim(-1);
  for (int64_t at = 0; at < x.size(); at += n) {
    const auto row = log_softmax_row(f64(x) + at, n);
    std::copy(row.begin(), row.end(), f64(y) + at);
  }
  return y;
}

Tensor softmax_reference(const Tensor& x) {
  const Tensor y = log_softmax_reference(x);
  for (int64_t i = 0; i < y.size(); ++i) f64(y)[i] = std::exp(f64(y)[i]);
  return y;
}

// One value per row: value(row's logits, classes, row).
template <class Value>
Tensor by_row(const Tensor& z, Value value) {
  const Tensor out = Tensor::empty({z.dim(0)}, Dtype::f64);
  for (int64_t r = 0; r < z.dim(0); ++r) f64(out)[r] = value(f64(z) + r * z.dim(1), z.dim(1), r);
  return out;
}

Tensor cross_entropy_reference(const Tensor& logits, const Tensor& labels) {
  return by_row(logits, [&](const double* z, int64_t n, int64_t r) {
    return -log_softmax_row(z, n)[size_t(labels.data_as<int32_t>()[r])];
  });
}

Tensor kl_reference(const Tensor& p, const Tensor& q) {
  return by_row(p, [&](const double* z, int64_t n, int64_t r) {
    const auto a = log_softmax_row(z, n), b = log_softmax_row(f64(q) + r * n, n);
    double sum = 0;
    for (size_t i = 0; i < a.size(); ++i) sum += std::exp(a[i]) * (a[i] - b[i]);
    return sum;
  });
}

Tensor margin_reference(const Tensor& logits, const Tensor& labels) {
  return by_row(logits, [&](const double* z, int64_t n, int64_t r) {
    const int label = labels.data_as<int32_t>()[r];
    double best = -std::numeric_limits<double>::infinity();
    for (int64_t i = 0; i < n; ++i)
      if (i != label) best = std::max(best, z[i]);
    return best - z[label];
  });
}

// The difference of logits ratio from a full sort; the target, if any, takes the place of the
// runner-up.
Tensor dlr_reference(const Tensor& logits, const Tensor& labels, const Tensor& targets) {
  return by_row(logits, [&](const double* z, int64_t n, int64_t r) {
    std::vector<double> sorted(z, z + n);
    std::sort(sorted.rbegin(), sorted.rend());
    const double own = z[labels.data_as<int32_t>()[r]];
    if (targets.defined())
      return (z[targets.data_as<int32_t>()[r]] - own) /
             (sorted[0] - (sorted[2] + sorted[3]) / 2 + 1e-12);
    return ((own == sorted[0] ? sorted[1] : sorted[0]) - own) / (sorted[0] - sorted[2] + 1e-12);
  });
}

// Row losses sum in float64; what is left in float32 is the rounding of inputs' gaps and results.
constexpr double kRow = 1e-6;
// bfloat16 softmax computes in float32 and rounds its result once: 2^-9 of the largest value.
constexpr double kRowBf16 = 0.004;

void add_softmax(std::vector<OpCase>& out, const Shape& shape) {
  const auto x = [=] { return Tensors{randn(shape, 1)}; };
  const double bytes = 8.0 * static_cast<double>(shape.count());  // float32, read and written
  out.push_back({.name = "softmax " + shape.str(),
                 .inputs = x,
                 .op = [](const Tensors& in) { return Tensors{softmax(in[0])}; },
                 .reference = [](const Tensors& in) { return Tensors{softmax_reference(in[0])}; },
                 .differentiable = {0},
                 .f32 = kRow,
                 .bf16 = kRowBf16,
                 .bytes = bytes});
  out.push_back(
      {.name = "log_softmax " + shape.str(),
       .inputs = x,
       .op = [](const Tensors& in) { return Tensors{log_softmax(in[0])}; },
       .reference = [](const Tensors& in) { return Tensors{log_softmax_reference(in[0])}; },
       .differentiable = {0},
       .f32 = kRow,
       .bf16 = kRowBf16,
       .bytes = bytes});
}

void add_losses(std::vector<OpCase>& out, int64_t rows, int classes) {
  const Shape shape{rows, classes};
  const auto labels = [=](uint32_t stream) { return rand_ints({rows}, 0, classes, stream); };
  const auto labelled = [=] { return Tensors{randn(shape, 2), labels(3)}; };
  const auto targeted = [=] { return Tensors{randn(shape, 2), labels(3), labels(7)}; };
  const double bytes = 4.0 * static_cast<double>(shape.count());  // float32, read
  out.push_back(
      {.name = "cross_entropy " + shape.str(),
       .inputs = labelled,
       .op = [](const Tensors& in) { return Tensors{cross_entropy(in[0], in[1])}; },
       .reference =
           [](const Tensors& in) { return Tensors{cross_entropy_reference(in[0], in[1])}; },
       .differentiable = {0},
       .f32 = kRow,
       .bytes = bytes});
  out.push_back({.name = "mixed_cross_entropy " + shape.str(),
                 .inputs =
                     [=] {
                       return Tensors{randn(shape, 2), labels(3), labels(5), randn({rows}, 6)};
                     },
                 .op =
                     [](const Tensors& in) {
                       return Tensors{mixed_cross_entropy(in[0], in[1], in[2], in[3])};
                     },
                 .reference =
                     [](const Tensors& in) {
                       const Tensor one = cross_entropy_reference(in[0], in[1]),
                                    two = cross_entropy_reference(in[0], in[2]);
                       return Tensors{by_row(in[0], [&](const double*, int64_t, int64_t r) {
                         return f64(in[3])[r] * f64(one)[r] + (1 - f64(in[3])[r]) * f64(two)[r];
                       })};
                     },
                 .differentiable = {0, 3},
                 .f32 = kRow,
                 .bytes = 2 * bytes});
  out.push_back({.name = "kl_divergence " + shape.str(),
                 .inputs =
                     [=] {
                       return Tensors{randn(shape, 2), randn(shape, 4)};
                     },
                 .op = [](const Tensors& in) { return Tensors{kl_divergence(in[0], in[1])}; },
                 .reference = [](const Tensors& in) { return Tensors{kl_reference(in[0], in[1])}; },
                 .differentiable = {0, 1},
                 .f32 = kRow,
                 .bytes = 2 * bytes});
  if (classes < 2) return;
  out.push_back(
      {.name = "margin " + shape.str(),
       .inputs = labelled,
       .op = [](const Tensors& in) { return Tensors{margin(in[0], in[1])}; },
       .reference = [](const Tensors& in) { return Tensors{margin_reference(in[0], in[1])}; },
       .differentiable = {0},
       .f32 = kRow,
       .bytes = bytes});
  out.push_back(
      {.name = "targeted_margin " + shape.str(),
       .inputs = targeted,
       .op = [](const Tensors& in) { return Tensors{targeted_margin(in[0], in[1], in[2])}; },
       .reference =
           [](const Tensors& in) {
             return Tensors{by_row(in[0], [&](const double* row, int64_t, int64_t r) {
               return row[in[2].data_as<int32_t>()[r]] - row[in[1].data_as<int32_t>()[r]];
             })};
           },
       .differentiable = {0},
       .f32 = kRow,
       .bytes = bytes});
  if (classes < 3) return;
  out.push_back(
      {.name = "dlr " + shape.str(),
       .inputs = labelled,
       .op = [](const Tensors& in) { return Tensors{dlr(in[0], in[1])}; },
       .reference = [](const Tensors& in) { return Tensors{dlr_reference(in[0], in[1], {})}; },
       .differentiable = {0},
       .f32 = kRow,
       .bytes = bytes});
  if (classes < 4) return;
  out.push_back(
      {.name = "targeted_dlr " + shape.str(),
       .inputs = targeted,
       .op = [](const Tensors& in) { return Tensors{targeted_dlr(in[0], in[1], in[2])}; },
       .reference = [](const Tensors& in) { return Tensors{dlr_reference(in[0], in[1], in[2])}; },
       .differentiable = {0},
       .f32 = kRow,
       .bytes = bytes});
}

}  // namespace

std::vector<OpCase> loss_cases(Scale scale) {
  std::vector<OpCase> out;
  if (scale == Scale::bench) {
    add_softmax(out, {65536, 256});
    add_losses(out, 8192, 1000);
    return out;
  }
  for (const Shape& shape : {Shape{4, 10}, {3, 7}, {2, 3, 5}, {6}, {0, 5}, {1, 1}})
    add_softmax(out, shape);
  add_losses(out, 16, 10);
  add_losses(out, 3, 7);
  add_losses(out, 0, 4);
  add_losses(out, 1, 1);
  add_losses(out, 2, 2);
  add_losses(out, 6, 3);
  add_losses(out, 9, 4);
  add_losses(out, 5, 1001);
  return out;
}

}  // namespace moat::tests
