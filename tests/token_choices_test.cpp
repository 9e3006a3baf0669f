#include <catch2/catch.hpp>
#include <cmath>
#include <map>

#include "models/classifier.h"
#include "models/token_moe.h"
#include "tests/models_fixture.h"

// The choices of tokens, taken in the place of their gate (models/net.h).

namespace moat::tests {

using namespace engine;
using models::TokenChoices;
using models::TokenRanks;

TEST_CASE("token choices: whoever chooses is told the gate and obeyed", "[v-moe][routes]") {
  constexpr int kWidth = 6, kExperts = 4, kHidden = 4 * kWidth;
  models::TransformerShape shape;
  shape.moe = {.blocks = {1, 3}, .experts = kExperts, .active = 2};
  InitStream stream{.seed = 4};
  models::TokenMoe moe(shape, kWidth, 3, stream);
  std::map<std::string, std::vector<double>> w;
  uint32_t number = 0;
  for (const NamedTensor& t : state_of(moe)) {
    *t.value = random_normal({t.value->size(), 1}, row_numbers(t.value->size()),
                             {.seed = 8, .stream = ++number}, 0, 0.7, Dtype::f64)
                   .reshaped(t.value->shape());
    w[t.name] = doubles(*t.value);
  }
  const Tensor x = random_normal({3, 5 * kWidth}, row_numbers(3), {.stream = 1}, 0, 1, Dtype::f64)
                       .reshaped({3, 5, kWidth});
  const auto in = doubles(x);
  std::vector<int32_t> experts, ranked;
  std::vector<double> weights, given;
  for (int i = 0; i < 30; ++i) {
    experts.push_back(i * 7 % 4);
    weights.push_back(i % 3 == 0 ? 0 : 0.1 * i - 1);
  }
  const models::ChooseTokens choose = [&](const TokenRanks& r) -> TokenChoices {
    CHECK(r.layer == 1);  // the second mixture, though its block is the fourth
    CHECK(doubles(r.room) == std::vector<double>(30, 1));
    ranked = r.experts.to_vector<int32_t>();
    given = doubles(r.weights);
    return {Tensor::from(experts, r.room.shape()), Tensor::from(weights, r.room.shape())};
  };
  models::TokenGates gates;
  const auto out = doubles(moe.forward(x, {.gates = &gates, .choose = &choose}));
  const auto margins = doubles(gates.margins.at(0)), own = doubles(moe.forward(x, {}));
  const auto wished = gates.chosen.at(0).to_vector<int32_t>();
  CHECK(out != own);
  for (size_t t = 0; t < 15; ++t) {
    const double* token = &in[t * kWidth];
    std::vector<double> logits(kExperts);
    double total = 0;
    for (size_t e = 0; e < kExperts; ++e) {
      for (size_t i = 0; i < kWidth; ++i)
        logits[e] += token[i] * w["router.weight"][e * kWidth + i];
      total += std::exp(logits[e]);
    }
    std::vector<int32_t> best = {0, 1, 2, 3};
    std::sort(best.begin(), best.end(),
              [&](int32_t a, int32_t b) { return logits[size_t(a)] > logits[size_t(b)]; });
    for (size_t rank = 0; rank < kExperts; ++rank) {
      CHECK(ranked[t * kExperts + rank] == best[rank]);
      CHECK(given[t * kExperts + rank] == Approx(std::exp(logits[size_t(best[rank])]) / total));
    }
    CHECK(std::vector(wished.begin() + 2 * t, wished.begin() + 2 * t + 2) ==
          std::vector(best.begin(), best.begin() + 2));
    CHECK(margins[t] == Approx(logits[size_t(best[1])] - logits[size_t(best[2])]));
    std::vector<double> expected(kWidth);
    for (size_t k = 0; k < 2; ++k) {
      const auto e = size_t(experts[2 * t + k]);
      std::vector<double> hidden(kHidden);
      for (size_t h = 0; h < kHidden; ++h) {
        double sum = w["experts.fc1.bias"][e * kHidden + h];
        for (size_t i = 0; i < kWidth; ++i)
          sum += token[i] * w["experts.fc1.weight"][(e * kHidden + h) * kWidth + i];
        hidden[h] = 0.5 * sum * (1 + std::erf(sum / std::sqrt(2.0)));
      }
      for (size_t o = 0; o < kWidth; ++o) {
        double sum = w["experts.fc2.bias"][e * kWidth + o];
        for (size_t h = 0; h < kHidden; ++h)
          sum += hidden[h] * w["experts.fc2.weight"][(e * kWidth + o) * kHidden + h];
        expected[o] += weights[2 * t + k] * sum;
      }
    }
    for (size_t o = 0; o < kWidth; ++o) CHECK(out[t * kWidth + o] == Approx(expected[o]));
  }
  CHECK_THROWS_WITH(
      models::Classifier(tiny_dense(), 1).forward_choosing(random_images(1, tiny_dense()), choose),
      Catch::Contains("routes tokens"));
}

}  // namespace moat::tests
