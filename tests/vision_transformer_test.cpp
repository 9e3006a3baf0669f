#include "models/vision_transformer.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <map>

#include "engine/ops/loss.h"
#include "engine/ops/reduce.h"
#include "models/classifier.h"
#include "tests/models_fixture.h"
#include "train/model_settings.h"

namespace moat::tests {

using namespace engine;
using models::Classifier;
using models::ClassifierSettings;
using models::TokenExperts;
using models::TokenMoe;

namespace {

constexpr int kWidth = 6;

models::TransformerShape mixture(int experts, int active) {
  models::TransformerShape shape;
  shape.moe = {.blocks = {0}, .experts = experts, .active = active};
  return shape;
}

Tensor tokens(int64_t images, int64_t count, uint32_t stream = 1) {
  return random_normal({images, count * kWidth}, row_numbers(images), {.stream = stream}, 0, 1,
                       Dtype::f64)
      .reshaped({images, count, kWidth});
}

TokenMoe make(const models::TransformerShape& shape) {
  InitStream stream{.seed = 4};
  TokenMoe moe(shape, kWidth, 0, stream);
  uint32_t number = 0;
  for (const NamedTensor& t : state_of(moe))  // not close to zero, in float64
    *t.value = random_normal({t.value->size(), 1}, row_numbers(t.value->size()),
                             {.seed = 8, .stream = ++number}, 0, 0.7, Dtype::f64)
                   .reshaped(t.value->shape());
  return moe;
}

}  // namespace

// V-MoE's release; the numbers are those of its formula, worked by hand.
TEST_CASE("v-moe: capacity of an expert", "[models][vit]") {
  const auto capacity = [](int tokens, int experts, double factor) {
    return models::capacity_of({.experts = experts, .active = 2, .capacity = factor}, tokens);
  };
  CHECK(capacity(2308, 8, 1.5) == 868);
  CHECK(capacity(1160, 32, 1.05) == 80);
  CHECK(capacity(400, 32, 1.05) == 28);
  CHECK(capacity(400, 8, 1.05) == 108);
}

TEST_CASE("v-moe: each token is the weighted sum of its best experts", "[models][vit]") {
  TokenMoe moe = make(mixture(4, 2));
  std::map<std::string, std::vector<double>> w;
  for (const NamedTensor& t : state_of(moe)) w[t.name] = doubles(*t.value);
  const Tensor x = tokens(3, 5);
  const auto in = doubles(x), out = doubles(moe.forward(x, {}));
  constexpr size_t kHidden = 4 * kWidth;
  for (size_t t = 0; t < 15; ++t) {
    const double* token = &in[t * kWidth];
    std::vector<double> gate(4);
    double total = 0;
    for (size_t e = 0; e < 4; ++e) {
      double logit = 0;
      for (size_t i = 0; i < kWidth; ++i) logit += token[i] * w["router.weight"][e * kWidth + i];
      total += gate[e] = std::exp(logit);
    }
    std::vector<size_t> best = {0, 1, 2, 3};
    std::sort(best.begin(), best.end(), [&](size_t a, size_t b) { return gate[a] > gate[b]; });
    std::vector<double> expected(kWidth);
    for (size_t e : {best[0], best[1]}) {
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
        expected[o] += gate[e] / total * sum;  // not renormalised
      }
    }
    for (size_t o = 0; o < kWidth; ++o) CHECK(out[t * kWidth + o] == Approx(expected[o]));
  }
}

TEST_CASE("v-moe: choices beyond an expert's room are dropped", "[models][vit]") {
  models::TransformerShape shape = mixture(2, 2);  // every token asks for both
  shape.moe.capacity = 0.5;                        // half of them find room
  const bool by_gate = GENERATE(false, true);
  shape.moe.priority = by_gate ? models::Priority::best_gate : models::Priority::order;
  TokenMoe moe = make(shape);
  const Tensor x = tokens(2, 16);
  models::TokenGates gates;
  const auto y = doubles(moe.forward(x, {.gates = &gates}));
  const auto experts = gates.experts.at(0).to_vector<int32_t>();
  CHECK(models::capacity_of(shape.moe, 32) == 16);
  for (int32_t e : {0, 1}) CHECK(std::count(experts.begin(), experts.end(), e) == 16);
  CHECK(std::count(experts.begin(), experts.end(), -1) == 32);
  int64_t lost = 0;
  for (size_t t = 0; t < 32; ++t) {
    if (experts[2 * t] >= 0 || experts[2 * t + 1] >= 0) continue;
    ++lost;
    for (size_t i = 0; i < kWidth; ++i) CHECK(y[t * kWidth + i] == 0);
  }
  CHECK(lost > 0);
  // First choices in the tokens' order: of each expert the first sixteen.
  models::TokenGates all;
  shape.moe.capacity = 0;
  make(shape).forward(x, {.gates = &all});
  const auto wished = all.experts.at(0).to_vector<int32_t>();
  int64_t first_lost_in_order = 0;
  std::vector<int64_t> placed(2);
  for (size_t t = 0; t < 32; ++t) {
    const auto e = static_cast<size_t>(wished[2 * t]);
    const bool has_room = placed[e]++ < 16;
    first_lost_in_order += (experts[2 * t] >= 0) != has_room;
  }
  CHECK((first_lost_in_order == 0) == !by_gate);
}

TEST_CASE("v-moe: images share an expert's room within their group alone", "[models][vit]") {
  models::TransformerShape shape = mixture(3, 2);
  shape.moe.capacity = 0.6;
  const Tensor x = tokens(6, 9);
  const auto own = [&](int group, int64_t from, int64_t to) {
    shape.moe.group = group;
    return doubles(make(shape).forward(x.sliced(0, from, to), {}));
  };
  const size_t image = 9 * kWidth;
  const auto alone = own(1, 2, 3), among = own(1, 0, 6);
  CHECK(std::equal(alone.begin(), alone.end(), among.begin() + 2 * image));
  const auto pair = own(2, 2, 4), pairs = own(2, 0, 6);
  CHECK(std::equal(pair.begin(), pair.end(), pairs.begin() + 2 * image));
  const auto whole = own(0, 0, 6);
  CHECK_FALSE(std::equal(pair.begin(), pair.end(), whole.begin() + 2 * image));
}

TEST_CASE("v-moe: the auxiliary losses are added up over groups and layers", "[models][vit]") {
  models::TransformerShape shape = mixture(3, 2);
  shape.moe.load = 0;
  shape.moe.importance = 0.7;
  const Tensor x = tokens(4, 5);
  const auto importance = [&](int group, int64_t from, int64_t to) {
    shape.moe.group = group;
    models::TokenGates gates;
    make(shape).forward(x.sliced(0, from, to), {.gates = &gates});
    return gates.auxiliary.item();
  };
  CHECK(importance(0, 0, 4) != Approx(importance(2, 0, 4)));
  CHECK(importance(2, 0, 4) == Approx((importance(0, 0, 2) + importance(0, 2, 4)) / 2));
}

TEST_CASE("v-moe: the auxiliary losses of an image are its own", "[models][vit]") {
  ClassifierSettings s = small_family("v-moe");
  s.transformer.moe.importance = 0.7;
  s.transformer.moe.balance = 0.2;
  const Classifier model(s, 1);
  const Tensor x = random_images(5, s);
  const auto all = doubles(model.auxiliary_losses(x));
  REQUIRE(all.size() == 5);
  for (int64_t i = 0; i < 5; ++i) {
    const double alone =
        model.forward(x.sliced(0, i, i + 1).contiguous(), Mode::eval).tokens.auxiliary.item();
    CHECK(all[size_t(i)] == Approx(alone));
    CHECK(doubles(model.auxiliary_losses(x.sliced(0, i, i + 1))) == std::vector{all[size_t(i)]});
  }
  CHECK(all[0] != all[1]);
  CHECK(model.auxiliary_losses(x.sliced(0, 0, 0)).size() == 0);
  s.transformer.moe.importance = s.transformer.moe.balance = 0;
  CHECK_THROWS_WITH(Classifier(s, 1).auxiliary_losses(x), Catch::Contains("token gates"));
}

TEST_CASE("v-moe: noise on the gate depends on image and step, not on the batch", "[models][vit]") {
  const ClassifierSettings s = small_family("v-moe");
  Classifier model(s, 1);
  const Tensor x = random_images(8, s);
  const auto run = [&](std::vector<int32_t> ids, int64_t from, uint32_t iteration) {
    const auto n = static_cast<int64_t>(ids.size());
    const models::GateSeed seed{.seed = 3, .iteration = iteration, .ids = Tensor::from(ids, {n})};
    return doubles(
        model.forward(x.sliced(0, from, from + n), Mode::train, models::GateGradient::open, &seed)
            .logits);
  };
  const auto all = run({10, 11, 12, 13, 14, 15, 16, 17}, 0, 0);
  CHECK(run({10, 11, 12, 13, 14, 15, 16, 17}, 0, 0) == all);
  const auto half = run({14, 15, 16, 17}, 4, 0);
  CHECK(std::equal(half.begin(), half.end(), all.begin() + 4 * s.classes));
  CHECK(run({10, 11, 12, 13, 14, 15, 16, 17}, 0, 1) != all);
  CHECK(run({20, 11, 12, 13, 14, 15, 16, 17}, 0, 0) != all);
  // Numbers of tokens count modulo 2^32.
  const int32_t far = std::numeric_limits<int32_t>::max();
  CHECK(run({far}, 0, 0) != run({far - 1}, 0, 0));
  CHECK(doubles(model.forward(x, Mode::train).logits) != all);  // no seed, no noise
  const auto eval = doubles(model.forward(x, Mode::eval).logits);
  CHECK(doubles(model.forward(x, Mode::train).logits) == eval);
}

TEST_CASE("v-moe: which blocks are mixtures", "[models][vit]") {
  train::ModelSettings model;
  model.name = "v-moe-small-patch4-32";
  const auto blocks = [&](const std::string& placement) {
    model.moe_blocks = placement;
    return train::zoo_settings(model).transformer.moe.blocks;
  };
  CHECK(blocks("") == std::vector<int>{1, 3, 5, 7, 9, 11});
  CHECK(blocks("every-3") == std::vector<int>{2, 5, 8, 11});
  CHECK(blocks("last-2") == std::vector<int>{9, 11});
  for (const char* bad : {"last-0", "last-7", "every-13", "every", "every-2x", "odd"})
    CHECK_THROWS_WITH(blocks(bad), Catch::Contains("every-<n> or last-<n>"));
  model.name = "resnet18";
  CHECK_THROWS_WITH(blocks("every-2"), Catch::Contains("need a v-moe"));
}

TEST_CASE("vit: shapes that do not fit are one line", "[models][vit]") {
  ClassifierSettings s = small_family("v-moe");
  s.transformer.patch = 3;
  CHECK_THROWS_WITH(Classifier(s, 0), Catch::Contains("8x8") && Catch::Contains("3x3"));
  s = small_family("v-moe");
  s.transformer.heads = 5;
  CHECK_THROWS_WITH(Classifier(s, 0), Catch::Contains("heads"));
  s = small_family("v-moe");
  s.transformer.moe.blocks = {2};
  CHECK_THROWS_WITH(Classifier(s, 0), Catch::Contains("2 blocks"));
  s = small_family("v-moe");
  s.transformer.moe.active = 4;
  CHECK_THROWS_WITH(Classifier(s, 0), Catch::Contains("from 1 to 3"));
}

}  // namespace moat::tests
