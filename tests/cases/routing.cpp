#include "engine/ops/routing.h"

#include <cmath>
#include <utility>

#include "engine/ops/experts.h"
#include "engine/ops/moe.h"
#include "tests/activation_reference.h"
#include "tests/op_case.h"

namespace moat::tests {

using namespace engine;

namespace {

struct RoutedSize {
  int64_t tokens, width;
  int k, num_experts, capacity;
};

// slot_of [tokens · k] by the definition: first choices are seated first, each expert's choices
// then lie side by side in the order of (token, choice).
std::vector<int64_t> slots(const Tensor& experts, const RoutedSize& s) {
  const int32_t* chosen = experts.data_as<int32_t>();
  const auto pairs = static_cast<size_t>(s.tokens * s.k);
  std::vector<bool> seated(pairs, false);
  std::vector<int> taken(static_cast<size_t>(s.num_experts), 0);
  for (int j = 0; j < s.k; ++j)
    for (int64_t t = 0; t < s.tokens; ++t) {
      int& count = taken[static_cast<size_t>(chosen[t * s.k + j])];
      if (s.capacity > 0 && count == s.capacity) continue;
      seated[static_cast<size_t>(t * s.k + j)] = true;
      ++count;
    }
  std::vector<int64_t> out(pairs, -1);
  int64_t row = 0;
  for (int e = 0; e < s.num_experts; ++e)
    for (size_t pair = 0; pair < pairs; ++pair)
      if (seated[pair] && chosen[pair] == e) out[pair] = row++;
  return out;
}

Routing moved(const Routing& routing, Device device) {
  return {routing.offsets.to(device), routing.row_token.to(device), routing.slot_of.to(device)};
}

std::string described(const char* op, const RoutedSize& s) {
  return text(op, " [", s.tokens, ", ", s.width, "] k=", s.k, " E=", s.num_experts,
              s.capacity > 0 ? text(" C=", s.capacity) : "");
}

OpCase dispatch_case(const RoutedSize& s) {
  const Tensor experts = rand_ints({s.tokens, s.k}, 0, s.num_experts, 3);
  const Routing routing = route_tokens(experts, s.num_experts, {.capacity = s.capacity});
  return {.name = described("dispatch_rows", s),
          .inputs =
              [=] {
                return Tensors{randn({s.tokens, s.width}, 1)};
              },
          .op =
              [=](const Tensors& in) {
                return Tensors{dispatch_rows(in[0], moved(routing, in[0].device()))};
              },
          .reference =
              [=](const Tensors& in) {
                const Tensor y = Tensor::zeros({s.tokens * s.k, s.width}, Dtype::f64);
                const auto slot = slots(experts, s);
                for (size_t pair = 0; pair < slot.size(); ++pair)
                  for (int64_t j = 0; slot[pair] >= 0 && j < s.width; ++j)
                    f64(y)[slot[pair] * s.width + j] =
                        f64(in[0])[static_cast<int64_t>(pair) / s.k * s.width + j];
                return Tensors{y};
              },
          .differentiable = {0},
          .f32 = 1e-7,
          .bf16 = 4e-3,
          .bytes = 8.0 * static_cast<double>(s.tokens * s.k * s.width)};
}

OpCase combine_case(const RoutedSize& s) {
  const Tensor experts = rand_ints({s.tokens, s.k}, 0, s.num_experts, 3);
  const Routing routing = route_tokens(experts, s.num_experts, {.capacity = s.capacity});
  return {.name = described("combine_rows", s),
          .inputs =
              [=] {
                return Tensors{randn({s.tokens * s.k, s.width}, 1), randn({s.tokens, s.k}, 2)};
              },
          .op =
              [=](const Tensors& in) {
                return Tensors{combine_rows(in[0], in[1], moved(routing, in[0].device()))};
              },
          .reference =
              [=](const Tensors& in) {
                const Tensor y = Tensor::zeros({s.tokens, s.width}, Dtype::f64);
                const auto slot = slots(experts, s);
                for (size_t pair = 0; pair < slot.size(); ++pair)
                  for (int64_t j = 0; slot[pair] >= 0 && j < s.width; ++j)
                    f64(y)[static_cast<int64_t>(pair) / s.k * s.width + j] +=
                        f64(in[1])[pair] * f64(in[0])[slot[pair] * s.width + j];
                return Tensors{y};
              },
          .differentiable = {0, 1},
          .keep_float32 = {1},
          .f32 = 2e-6,
          .bf16 = 1e-2,
          .bytes = 4.0 * static_cast<double>((s.k + 1) * s.tokens * s.width),
          .flops = 2.0 * static_cast<double>(s.tokens * s.k * s.width)};
}

OpCase product_case(const RoutedSize& s, int64_t n, Rows rows) {
  const Tensor experts = rand_ints({s.tokens, s.k}, 0, s.num_experts, 3);
  const Routing routing = route_tokens(experts, s.num_experts, {.capacity = s.capacity});
  const int64_t x_rows = rows == Rows::gathered ? s.tokens : s.tokens * s.k;
  // y[slot] = Σ x w (+ bias), or the sum of magnitudes that bounds its error.
  const auto by_definition = [=](const Tensors& in, bool magnitudes) {
    const Tensor y = Tensor::zeros({s.tokens * s.k, n}, Dtype::f64);
    const auto slot = slots(experts, s);
    for (size_t pair = 0; pair < slot.size(); ++pair) {
      if (slot[pair] < 0) continue;
      const int64_t e = experts.data_as<int32_t>()[pair],
                    row = rows == Rows::gathered ? static_cast<int64_t>(pair) / s.k : slot[pair];
      for (int64_t j = 0; j < n; ++j) {
        const double bias = f64(in[2])[e * n + j];
        double sum = magnitudes ? std::abs(bias) : bias;
        for (int64_t i = 0; i < s.width; ++i) {
          const double term = f64(in[0])[row * s.width + i] * f64(in[1])[(e * n + j) * s.width + i];
          sum += magnitudes ? std::abs(term) : term;
        }
        f64(y)[slot[pair] * n + j] = sum;
      }
    }
    return Tensors{y};
  };
  return {
      .name = described(rows == Rows::gathered ? "grouped_gemm gathered" : "grouped_gemm", s) +
              text(" n=", n),
      .inputs =
          [=] {
            return Tensors{randn({x_rows, s.width}, 1), randn({s.num_experts, n, s.width}, 2),
                           randn({s.num_experts, n}, 4)};
          },
      .op =
          [=](const Tensors& in) {
            return Tensors{grouped_gemm(in[0], in[1], in[2], moved(routing, in[0].device()), rows)};
          },
      .reference = [=](const Tensors& in) { return by_definition(in, false); },
      .differentiable = {0, 1, 2},
      .keep_float32 = {1, 2},
      .bound = [=](const Tensors& in) { return by_definition(in, true); },
      .f32 = 2e-6,
      .bf16 = 8e-3,  // weights are rounded as well
      .flops = 2.0 * static_cast<double>(s.tokens * s.k * s.width * n)};
}

OpCase activation_case(ExpertActivation activation, int64_t rows, int64_t width) {
  const bool gated = activation == ExpertActivation::swiglu;
  const int64_t out = gated ? width / 2 : width;
  return {.name = text("expert_activation ", static_cast<int>(activation), " [", rows, ", ", width,
                       "]"),
          .inputs =
              [=] {
                return Tensors{randn({rows, width}, 6)};
              },
          .op = [=](const Tensors& in) { return Tensors{expert_activation(in[0], activation)}; },
          .reference =
              [=](const Tensors& in) {
                const Tensor y = Tensor::empty({rows, out}, Dtype::f64);
                for (int64_t r = 0; r < rows; ++r)
                  for (int64_t j = 0; j < out; ++j) {
                    const double* pre = f64(in[0]) + r * width;
                    f64(y)[r * out + j] =
                        activated(activation, pre[j]) * (gated ? pre[out + j] : 1);
                  }
                return Tensors{y};
              },
          .differentiable = {0},
          .bf16 = 1e-2,
          .bytes = 8.0 * static_cast<double>(rows * width)};
}

// The whole layer: gate, gathered product, activation, product, weighted sum (V-MoE, Riquelme et
// al. 2021, equation 1 with k experts).
OpCase layer_case(const RoutedSize& s, int64_t hidden, ExpertActivation activation) {
  const int64_t pre = activation == ExpertActivation::swiglu ? 2 * hidden : hidden;
  return {
      .name = described("moe layer", s) + text(" hidden=", hidden),
      .inputs =
          [=] {
            return Tensors{randn({s.tokens, s.width}, 1),
                           randn({s.tokens, s.num_experts}, 2),
                           randn({s.num_experts, pre, s.width}, 3),
                           randn({s.num_experts, pre}, 4),
                           randn({s.num_experts, s.width, hidden}, 5),
                           randn({s.num_experts, s.width}, 6)};
          },
      .op =
          [=](const Tensors& in) {
            const Gate gate = topk_gate(in[1], s.k, GateForm::softmax_topk);
            const Routing routing = route_tokens(gate.experts, s.num_experts);
            const Tensor inner = expert_activation(
                grouped_gemm(in[0], in[2], in[3], routing, Rows::gathered), activation);
            return Tensors{combine_rows(grouped_gemm(inner, in[4], in[5], routing, Rows::sorted),
                                        gate.weights, routing)};
          },
      .reference =
          [=](const Tensors& in) {
            const Tensor y = Tensor::zeros({s.tokens, s.width}, Dtype::f64);
            const int64_t d = s.width;
            for (int64_t t = 0; t < s.tokens; ++t) {
              std::vector<double> scores(f64(in[1]) + t * s.num_experts,
                                         f64(in[1]) + (t + 1) * s.num_experts);
              double all = 0;
              for (double z : scores) all += std::exp(z);
              for (int choice = 0; choice < s.k; ++choice) {
                size_t e = 0;
                for (size_t i = 1; i < scores.size(); ++i)
                  if (scores[i] > scores[e]) e = i;
                const double weight = std::exp(scores[e]) / all;
                scores[e] = -INFINITY;
                const auto expert = static_cast<int64_t>(e);
                std::vector<double> z(static_cast<size_t>(pre));
                for (int64_t j = 0; j < pre; ++j) {
                  double& sum = z[static_cast<size_t>(j)];
                  sum = f64(in[3])[expert * pre + j];
                  for (int64_t i = 0; i < d; ++i)
                    sum += f64(in[0])[t * d + i] * f64(in[2])[(expert * pre + j) * d + i];
                }
                for (int64_t i = 0; i < d; ++i) {
                  double sum = f64(in[5])[expert * d + i];
                  for (int64_t j = 0; j < hidden; ++j) {
                    const auto at = static_cast<size_t>(j);
                    double h = activated(activation, z[at]);
                    if (pre > hidden) h *= z[at + static_cast<size_t>(hidden)];
                    sum += h * f64(in[4])[(expert * d + i) * hidden + j];
                  }
                  f64(y)[t * d + i] += weight * sum;
                }
              }
            }
            return Tensors{y};
          },
      .differentiable = {0, 1, 2, 3, 4, 5},
      .f32 = 4e-6,
      .gradient = 1e-6};
}

}  // namespace

std::vector<OpCase> routing_cases(Scale scale) {
  std::vector<OpCase> out;
  const auto add = [&](const RoutedSize& s) {
    out.push_back(dispatch_case(s));
    out.push_back(combine_case(s));
  };
  if (scale == Scale::bench) {
    add({65536, 384, 2, 8, 0});
    add({65536, 384, 2, 8, 17203});  // ceil(1.05 · 65536 · 2 / 8)
    out.push_back(product_case({4096, 384, 2, 8, 0}, 1536, Rows::gathered));
    out.push_back(product_case({4096, 1536, 2, 8, 0}, 384, Rows::sorted));
    out.push_back(layer_case({4096, 384, 2, 8, 0}, 1536, ExpertActivation::gelu));
  } else {
    add({5, 7, 2, 3, 0});
    add({9, 300, 3, 4, 4});  // a width beyond one tile of columns, a capacity that drops
    add({6, 1, 1, 1, 0});
    add({4, 5, 2, 9, 1});  // empty experts
    add({0, 4, 2, 3, 0});
    for (const Rows rows : {Rows::sorted, Rows::gathered}) {
      out.push_back(product_case({5, 7, 2, 3, 0}, 4, rows));
      out.push_back(product_case({40, 33, 2, 3, 13}, 70, rows));  // a capacity that drops
      out.push_back(product_case({4, 5, 1, 9, 0}, 3, rows));      // empty experts
      out.push_back(product_case({6, 3, 1, 1, 0}, 1, rows));
      out.push_back(product_case({0, 4, 2, 3, 0}, 5, rows));
    }
    for (const auto activation :
         {ExpertActivation::none, ExpertActivation::relu, ExpertActivation::gelu,
          ExpertActivation::gelu_tanh, ExpertActivation::swiglu})
      for (int64_t rows : {0, 1, 9}) out.push_back(activation_case(activation, rows, 6));
    for (const auto activation :
         {ExpertActivation::gelu, ExpertActivation::relu, ExpertActivation::swiglu})
      out.push_back(layer_case({7, 5, 2, 4, 0}, 6, activation));
  }
  return out;
}

}  // namespace moat::tests
