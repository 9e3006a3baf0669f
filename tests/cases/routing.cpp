#include "engine/ops/routing.h"

#include <utility>

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

std::string described(const char* op, const RoutedSize& s) {
  return text(op, " [", s.tokens, ", ", s.width, "] k=", s.k, " E=", s.num_experts,
              s.capacity > 0 ? text(" C=", s.capacity) : "");
}

OpCase dispatch_case(const RoutedSize& s) {
  const Tensor experts = rand_ints({s.tokens, s.k}, 0, s.num_experts, 3);
  const Routing routing = route_tokens(experts, s.num_experts, {.capacity = s.capacity});
  return {.name = described("dispatch_rows", s),
          .inputs = {randn({s.tokens, s.width}, 1)},
          .op = [=](const Tensors& in) { return Tensors{dispatch_rows(in[0], routing)}; },
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
          .inputs = {randn({s.tokens * s.k, s.width}, 1), randn({s.tokens, s.k}, 2)},
          .op = [=](const Tensors& in) { return Tensors{combine_rows(in[0], in[1], routing)}; },
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
  } else {
    add({5, 7, 2, 3, 0});
    add({9, 300, 3, 4, 4});  // a width beyond one tile of columns, a capacity that drops
    add({6, 1, 1, 1, 0});
    add({4, 5, 2, 9, 1});  // empty experts
    add({0, 4, 2, 3, 0});
  }
  return out;
}

}  // namespace moat::tests
