#include "engine/ops/attention.h"

#include <cmath>

#include "tests/op_case.h"

namespace moat::tests {

namespace {

// qkv [batch, tokens, 3 heads width] -> [batch, tokens, heads width] by the definition.
Tensors reference(const Tensor& qkv, int64_t heads) {
  const int64_t batch = qkv.dim(0), tokens = qkv.dim(1), width = qkv.dim(2) / 3 / heads;
  const Tensor y = Tensor::zeros({batch, tokens, heads * width}, Dtype::f64);
  const auto at = [&](int64_t image, int64_t token, int64_t part, int64_t head, int64_t j) {
    return f64(qkv)[(((image * tokens + token) * 3 + part) * heads + head) * width + j];
  };
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t h = 0; h < heads; ++h)
      for (int64_t i = 0; i < tokens; ++i) {
        std::vector<double> p;
        double largest = -INFINITY, sum = 0;
        for (int64_t t = 0; t < tokens; ++t) {
          double s = 0;
          for (int64_t j = 0; j < width; ++j) s += at(b, i, 0, h, j) * at(b, t, 1, h, j);
          p.push_back(s / std::sqrt(double(width)));
          largest = std::max(largest, p.back());
        }
        for (double& s : p) sum += s = std::exp(s - largest);
        for (int64_t t = 0; t < tokens; ++t)
          for (int64_t j = 0; j < width; ++j)
            f64(y)[((b * tokens + i) * heads + h) * width + j] +=
                p[size_t(t)] / sum * at(b, t, 2, h, j);
      }
  return {y};
}

OpCase attention_case(int64_t batch, int64_t tokens, int heads, int64_t width) {
  const double products = double(batch * heads) * double(tokens * tokens * width);
  return {.name = engine::text("attention ", batch, "x", tokens, " tokens, ", heads, " heads of ",
                               width),
          .inputs =
              [=] {
                return Tensors{randn({batch, tokens, 3 * heads * width}, 1)};
              },
          .op = [heads](const Tensors& in) -> Tensors { return {engine::attention(in[0], heads)}; },
          .reference = [heads](const Tensors& in) { return reference(in[0], heads); },
          .differentiable = {0},
          // Scores of a few units, and as many roundings as a head is wide.
          .f32 = 5e-6,
          // On CUDA the probabilities are rounded, 2^-9 each; y is rounded once.
          .bf16 = 0.008,
          .gradient = 1e-6,
          .bytes = 16.0 * double(batch * tokens * heads * width),
          .flops = 4 * products};
}

}  // namespace

std::vector<OpCase> attention_cases(Scale scale) {
  if (scale == Scale::bench)
    return {attention_case(64, 65, 3, 64), attention_case(32, 197, 6, 64),
            attention_case(32, 145, 3, 64)};
  return {attention_case(2, 5, 2, 4),  attention_case(1, 67, 2, 16), attention_case(1, 65, 1, 64),
          attention_case(1, 9, 1, 72), attention_case(2, 3, 3, 5),   attention_case(2, 1, 2, 8),
          attention_case(1, 4, 1, 1),  attention_case(0, 4, 2, 8),   attention_case(2, 0, 1, 8)};
}

}  // namespace moat::tests
