#include <catch2/catch.hpp>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

#include "attacks/pgd.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/reduce.h"
#include "tests/models_fixture.h"
#include "tests/noise_set.h"
#include "train/analysis/tokens.h"
#include "train/training_attack.h"

// The routes of tokens, replaced and watched (models/net.h, train/analysis/tokens.h).

namespace moat::tests {

using namespace engine;
using namespace train;
using models::Classifier;
using models::ClassifierSettings;
using models::TokenChoices;
using models::TokenRanks;

namespace {

// Two blocks, each with a mixture.
ClassifierSettings two_layers(int experts, int active) {
  ClassifierSettings s = tiny_dense();
  s.name = "v-moe";
  s.family = models::Family::vit;
  s.blocks = {2};
  s.widths = {12};
  s.transformer.patch = 4;
  s.transformer.heads = 2;
  s.transformer.moe = {.blocks = {0, 1}, .experts = experts, .active = active};
  return s;
}

Tensor& tensor_of(Classifier& model, const std::string& name) {
  for (const NamedTensor& t : state_of(model))
    if (t.name == name) return *t.value;
  throw Error("no tensor " + name);
}

// Weights far from the initial ones, so that routes and experts matter.
Classifier model_of(const ClassifierSettings& s, Dtype dtype = Dtype::f32) {
  Classifier model(s, 3);
  uint32_t stream = 0;
  for (const NamedTensor& t : state_of(model)) {
    if (t.name.starts_with("normalize.") || t.name.find("norm") != std::string::npos) continue;
    const int64_t n = t.value->size();
    const double deviation = t.name.find("router") != std::string::npos ? 0.7 : 0.4;
    t.value->copy_from(
        random_normal({n, 1}, row_numbers(n), {.seed = 5, .stream = ++stream}, 0, deviation)
            .reshaped(t.value->shape()));
  }
  // On noise no class is everyone's favourite.
  Tensor& bias = tensor_of(model, "head.bias");
  const Tensor images = data::batch_of(noise_set(s, 24, 6)).images;
  bias.copy_from(sub(bias, mean(model.forward(images, Mode::eval).logits, 0)));
  if (dtype != Dtype::f32) convert(model, dtype);
  return model;
}

// The experts of one layer, [experts, …] each, in another order.
void exchange_two(Classifier& model, int layer) {
  for (const char* part : {"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"}) {
    Tensor& t = tensor_of(model, text("blocks.", layer, ".moe.experts.", part));
    std::vector<float> v = t.to_vector<float>();
    std::rotate(v.begin(), v.begin() + std::ssize(v) / 2, v.end());
    t.copy_from(Tensor::from(v, t.shape()));
  }
}

// Images of noise, labelled as the model sees them.
data::ImageSet set_for(const Classifier& model, int64_t n) {
  data::ImageSet set = noise_set(model.settings(), n, 6, 40);
  set.labels =
      argmax(model.forward(data::batch_of(set).images, Mode::eval).logits, 1).to_vector<int32_t>();
  return set;
}

const AnalysisSettings kSettings{.threat = {.eps = 0.1}, .steps = 5, .batch = 7, .jacobian = 1};

struct Scene {
  Classifier model;
  data::ImageSet set;
  attacks::Victims victims;
  Tensor attacked;  // by PGD through the gate
  explicit Scene(const ClassifierSettings& s, int64_t n = 24)
      : model(model_of(s)), set(set_for(model, n)) {
    const data::Batch batch = data::batch_of(set);
    victims = {batch.images, batch.labels, batch.ids, {}};
    attacked = attacks::pgd(attack_model(model), victims,
                            {.threat = kSettings.threat,
                             .steps = kSettings.steps,
                             .step = kSettings.threat.eps / 4,
                             .seed = kSettings.seed})
                   .adversarial;
  }
  const Tensor& images() const { return victims.images; }
  int64_t right(const Tensor& logits) const {
    const auto predicted = argmax(logits, 1).to_vector<int32_t>();
    int64_t count = 0;
    for (size_t i = 0; i < predicted.size(); ++i) count += predicted[i] == set.labels[i];
    return count;
  }
  Correct right_with(const Classifier& other) const {
    return {right(other.forward(images(), Mode::eval).logits),
            right(other.forward(attacked, Mode::eval).logits)};
  }
};

void check_equal(const Correct& a, const Correct& b) {
  CHECK(a.clean == b.clean);
  CHECK(a.attacked == b.attacked);
}

// Given experts at the weights that the gate gives them, or at given weights.
TokenChoices at(const TokenRanks& r, const std::vector<int32_t>& experts,
                const std::vector<double>& weights = {}) {
  const int64_t active = r.room.dim(2), all = r.experts.dim(2);
  const auto ranked = r.experts.to_vector<int32_t>();
  std::vector<double> w = weights, ranks = doubles(r.weights);
  std::vector<int32_t> used = experts;
  if (w.empty())
    for (int64_t i = 0; i < std::ssize(experts); ++i) {
      double weight = 0;  // of -1
      for (int64_t rank = 0; rank < all; ++rank)
        if (const auto at = size_t(i / active * all + rank); ranked[at] == experts[size_t(i)])
          weight = ranks[at];
      w.push_back(weight);
    }
  for (int32_t& e : used) e = std::max(e, 0);
  return {Tensor::from(used, r.room.shape()),
          Tensor::from(w, r.room.shape()).to(r.weights.dtype())};
}

// What the gates of a pass chose, capacity included, per layer.
struct Chosen {
  std::vector<std::vector<int32_t>> experts;  // -1 without room
  std::vector<std::vector<double>> weights;
  void add(const TokenRanks& r) {
    const auto active = size_t(r.room.dim(2)), all = size_t(r.experts.dim(2));
    const auto ranked = r.experts.to_vector<int32_t>();
    const auto given = doubles(r.weights), room = doubles(r.room);
    std::vector<int32_t> e;
    std::vector<double> w;
    for (size_t i = 0; i < room.size(); ++i) {
      const size_t rank = i / active * all + i % active;
      e.push_back(room[i] > 0 ? ranked[rank] : -1);
      w.push_back(room[i] * given[rank]);
    }
    experts.push_back(e);
    weights.push_back(w);
  }
};
TokenChoices own(const TokenRanks& r) {
  Chosen now;
  now.add(r);
  return at(r, now.experts[0], now.weights[0]);
}
Chosen chosen_by(const Classifier& model, const Tensor& images) {
  Chosen out;
  const models::Prediction p = model.forward_choosing(images, [&](const TokenRanks& r) {
    out.add(r);
    return own(r);
  });
  const models::Prediction free = model.forward(images, Mode::eval);
  CHECK(doubles(p.logits) == doubles(free.logits));  // the same bits
  for (size_t l = 0; l < out.experts.size(); ++l)
    CHECK(free.tokens.experts[l].to_vector<int32_t>() == out.experts[l]);
  return out;
}

}  // namespace

TEST_CASE("token routes: what moved, before and after capacity", "[v-moe][routes][analysis]") {
  ClassifierSettings settings = two_layers(4, 2);
  settings.transformer.moe.capacity = 0.7;
  settings.transformer.moe.group = 1;
  settings.transformer.moe.priority =
      GENERATE(models::Priority::order, models::Priority::best_gate);
  const Scene s(settings);
  const RouteAnalysis a = analyse_routes(s.model, s.set, kSettings);
  const auto clean = s.model.forward(s.images(), Mode::eval).tokens,
             now = s.model.forward(s.attacked, Mode::eval).tokens;
  REQUIRE(a.conditions.at(2).name == "pgd through");
  for (size_t layer = 0; layer < 2; ++layer) {
    const auto iou = [&](const Tensors& before, const Tensors& after) {
      const auto p = before[layer].to_vector<int32_t>(), q = after[layer].to_vector<int32_t>();
      double sum = 0;
      for (size_t t = 0; t < p.size(); t += 2) {
        int both = 0, either = 0;
        for (int32_t e = 0; e < 4; ++e) {
          const bool in_p = p[t] == e || p[t + 1] == e, in_q = q[t] == e || q[t + 1] == e;
          both += in_p && in_q;
          either += in_p || in_q;
        }
        sum += either == 0 ? 1 : double(both) / either;
      }
      return sum / (double(p.size()) / 2);
    };
    const GateUse &g = a.conditions[2].gates.at(layer), &before = a.conditions[0].gates.at(layer);
    const TokenMoves& moves = g.tokens.value();
    CHECK(moves.overlap == Approx(iou(clean.chosen, now.chosen)));
    CHECK(g.overlap == Approx(iou(clean.experts, now.experts)));
    CHECK(moves.overlap != Approx(g.overlap).epsilon(1e-3));
    CHECK(moves.overlap < 0.98);
    CHECK(g.dropped > 0);
    const auto p = clean.chosen[layer].to_vector<int32_t>(),
               q = now.chosen[layer].to_vector<int32_t>();
    double firsts = 0, classes = 0;
    const size_t tokens = p.size() / 2 / 24;
    CHECK(tokens == 5);
    for (size_t i = 0; i < 24; ++i)
      for (size_t t = 0; t < tokens; ++t) {
        const bool moved = p[(i * tokens + t) * 2] != q[(i * tokens + t) * 2];
        firsts += moved;
        if (t == 0) classes += moved;
      }
    CHECK(moves.first == Approx(firsts / double(24 * tokens)));
    CHECK(moves.first_of_class == Approx(classes / 24));
    CHECK(firsts > 0);
    CHECK(moves.margin == Approx(mean(now.margins[layer].to(Dtype::f64)).item()));
    CHECK(before.tokens->margin == Approx(mean(clean.margins[layer].to(Dtype::f64)).item()));
    CHECK(before.tokens->overlap == 1);
    CHECK(before.tokens->first == 0);
  }
  AnalysisSettings whole = kSettings;
  whole.batch = 256;
  CHECK(to_json(analyse_routes(s.model, s.set, whole)) == to_json(a));
}

TEST_CASE("token routes: a dropped layer adds nothing", "[v-moe][routes][analysis]") {
  const Scene s(two_layers(4, 2));
  const TokenTests t = test_tokens(s.model, s.set, kSettings);
  CHECK(t.as_it_is.clean == 24);  // labelled by the model
  check_equal(t.as_it_is, s.right_with(s.model));
  REQUIRE(t.layers.size() == 3);
  for (int row = 0; row < 3; ++row) {
    Classifier without = model_of(s.model.settings());
    for (int layer = 0; layer < 2; ++layer)
      for (const char* part : {"weight", "bias"})
        if (row == layer || row == 2) {
          Tensor& out = tensor_of(without, text("blocks.", layer, ".moe.experts.fc2.", part));
          out.copy_from(Tensor::zeros(out.shape()));
        }
    INFO(row);
    check_equal(t.layers[size_t(row)].dropped, s.right_with(without));
    CHECK(t.layers[size_t(row)].dropped.clean < 24);
  }
  CHECK(t.layers[2].name == "all");
}

TEST_CASE("token routes: the next of two experts is the other one", "[v-moe][routes][analysis]") {
  const Scene s(two_layers(2, 1));
  const TokenTests t = test_tokens(s.model, s.set, kSettings);
  for (int row = 0; row < 3; ++row) {
    Classifier other = model_of(s.model.settings());
    for (int layer = 0; layer < 2; ++layer)
      if (row == layer || row == 2) exchange_two(other, layer);
    INFO(row);
    check_equal(t.layers[size_t(row)].next, s.right_with(other));
    if (row != 1) continue;
    // In the last block the class token alone matters, and it jumps to the other expert.
    const auto before = doubles(s.model.forward(s.images(), Mode::eval).logits),
               after = doubles(other.forward(s.images(), Mode::eval).logits);
    double jump = 0;
    for (size_t i = 0; i < 24; ++i) {
      double squares = 0;
      for (size_t c = 0; c < 5; ++c) squares += std::pow(after[i * 5 + c] - before[i * 5 + c], 2);
      jump += std::sqrt(squares) / 24;
    }
    CHECK(t.layers[1].jump.value() == Approx(jump).epsilon(1e-5));
  }
  CHECK(t.layers[0].jump.value() > 0);
  CHECK_FALSE(t.layers[2].jump);
}

TEST_CASE("token routes: replaced choices keep their weights, and are different ones",
          "[v-moe][routes][analysis]") {
  // Of equal experts it does not matter which compute.
  Scene s(two_layers(4, 2));
  for (int layer = 0; layer < 2; ++layer)
    for (const char* part : {"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"}) {
      Tensor& t = tensor_of(s.model, text("blocks.", layer, ".moe.experts.", part));
      for (int64_t e = 1; e < 4; ++e) t.sliced(0, e, e + 1).copy_from(t.sliced(0, 0, 1));
      t.mark_written();
    }
  const TokenTests equal = test_tokens(s.model, s.set, kSettings);
  for (const LayerTests& l : equal.layers) {
    check_equal(l.next, equal.as_it_is);
    check_equal(l.random, equal.as_it_is);
  }
  // Of two experts at equal weights both compute, in whatever order they are drawn.
  Scene both(two_layers(2, 2));
  for (int layer = 0; layer < 2; ++layer) {
    Tensor& router = tensor_of(both.model, text("blocks.", layer, ".moe.router.weight"));
    router.copy_from(Tensor::zeros(router.shape()));
  }
  const TokenTests halves = test_tokens(both.model, both.set, kSettings);
  for (const LayerTests& l : halves.layers) {
    check_equal(l.random, halves.as_it_is);
    check_equal(l.next, halves.as_it_is);  // nobody is ranked behind
    CHECK_FALSE(l.jump);
  }
  CHECK(to_json(analyse_routes(both.model, both.set,
                               kSettings))["conditions"][0]["gates"][0]["tokens"]["margin"]
            .is_null());
}

TEST_CASE("token routes: replayed along what the other image chose", "[v-moe][routes][analysis]") {
  ClassifierSettings settings = two_layers(4, 2);
  const bool limited = GENERATE(false, true);
  if (limited) {
    settings.transformer.moe.capacity = 0.7;
    settings.transformer.moe.group = 1;
  }
  const Scene s(settings, 40);
  const TokenTests t = test_tokens(s.model, s.set, kSettings);
  const Chosen clean = chosen_by(s.model, s.images()), attacked = chosen_by(s.model, s.attacked);
  int64_t differing = 0;
  for (int row = 0; row < 3; ++row) {
    const auto replayed = [&](const Tensor& images, const Chosen& others, bool weights) {
      const auto choose = [&](const TokenRanks& r) {
        const auto l = size_t(r.layer);
        if (row < 2 && row != r.layer) return own(r);
        return at(r, others.experts[l], weights ? others.weights[l] : std::vector<double>{});
      };
      return s.right(s.model.forward_choosing(images, choose).logits);
    };
    const LayerTests& l = t.layers[size_t(row)];
    INFO(row);
    check_equal(l.choices,
                {replayed(s.images(), attacked, false), replayed(s.attacked, clean, false)});
    check_equal(l.routes,
                {replayed(s.images(), attacked, true), replayed(s.attacked, clean, true)});
    differing += l.choices.attacked != l.routes.attacked;
    differing += l.choices.attacked != t.as_it_is.attacked;
    differing += l.choices.clean != t.as_it_is.clean;
  }
  CHECK(differing > 0);
  AnalysisSettings none = kSettings;
  none.threat.eps = 0;
  const TokenTests same = test_tokens(s.model, s.set, none);
  for (const LayerTests& l : same.layers) {
    check_equal(l.choices, same.as_it_is);
    check_equal(l.routes, same.as_it_is);
  }
}

TEST_CASE("token routes: the token nearest to another choice jumps", "[v-moe][routes][analysis]") {
  const Scene s(two_layers(4, 2), 6);
  const TokenTests t = test_tokens(s.model, s.set, kSettings);
  const models::Prediction p = s.model.forward(s.images(), Mode::eval);
  const auto before = doubles(p.logits), margins = doubles(p.tokens.margins[0]);
  double jump = 0;
  for (int64_t i = 0; i < 6; ++i) {
    const auto first = margins.begin() + 5 * i;
    const auto token = size_t(std::min_element(first, first + 5) - first);
    const Tensor image = s.images().sliced(0, i, i + 1).contiguous();
    const auto choose = [&](const TokenRanks& r) {
      Chosen now;
      now.add(r);
      if (r.layer == 0)
        now.experts[0][2 * token + 1] = r.experts.to_vector<int32_t>()[token * 4 + 2];
      return at(r, now.experts[0], now.weights[0]);
    };
    const auto after = doubles(s.model.forward_choosing(image, choose).logits);
    double squares = 0;
    for (size_t c = 0; c < 5; ++c) squares += std::pow(after[c] - before[size_t(i) * 5 + c], 2);
    jump += std::sqrt(squares) / 6;
  }
  CHECK(t.layers[0].jump.value() == Approx(jump).epsilon(1e-4));
}

TEST_CASE("token routes: an image's numbers are its own", "[v-moe][routes][analysis]") {
  for (const bool limited : {false, true}) {
    ClassifierSettings settings = two_layers(4, 2);
    if (limited) {
      settings.transformer.moe.capacity = 0.7;
      settings.transformer.moe.group = 1;
    }
    const Scene s(settings);
    AnalysisSettings whole = kSettings;
    whole.batch = 256;
    const auto all = to_json(test_tokens(s.model, s.set, kSettings), 24);
    CHECK(to_json(test_tokens(s.model, s.set, whole), 24) == all);
    CHECK(all["layers"][0]["random"] != all["as_it_is"]);
    std::vector<int32_t> backwards(24);
    std::iota(backwards.rbegin(), backwards.rend(), 0);
    const auto turned =
        to_json(test_tokens(s.model, data::select(s.set, backwards), kSettings), 24);
    for (const char* key : {"dropped", "next", "random", "replayed_choices", "replayed_routes"})
      CHECK(turned["layers"][2][key] == all["layers"][2][key]);
  }
  const Classifier dense(tiny_dense(), 3);
  CHECK_THROWS_WITH(test_tokens(dense, set_for(dense, 2), kSettings),
                    Catch::Contains("route tokens"));
}

// Against central differences in every pixel of one image, in float64.
TEST_CASE("token routes: the Jacobian through the gate and along frozen routes",
          "[v-moe][routes][analysis]") {
  const Classifier model = model_of(two_layers(4, 2)),
                   exact = model_of(two_layers(4, 2), Dtype::f64);
  const data::ImageSet set = set_for(model, 1);
  const JacobianNorms n = jacobian_norms(model, set, kSettings);
  const Tensor x = data::batch_of(set).images.to(Dtype::f64);
  const auto pixels = doubles(x);
  const Chosen clean = chosen_by(exact, x);
  constexpr double kStep = 1e-5;
  for (const bool frozen : {false, true}) {
    double squares = 0;
    for (size_t i = 0; i < pixels.size(); ++i) {
      std::vector<double> sides[2];
      for (size_t side : {0, 1}) {
        auto moved = pixels;
        moved[i] += side == 0 ? kStep : -kStep;
        const auto choose = [&](const TokenRanks& r) {
          const auto l = size_t(r.layer);
          return at(r, clean.experts[l], frozen ? clean.weights[l] : std::vector<double>{});
        };
        sides[side] =
            doubles(exact.forward_choosing(Tensor::from(moved, x.shape()), choose).logits);
      }
      for (size_t c = 0; c < 5; ++c)
        squares += std::pow((sides[0][c] - sides[1][c]) / (2 * kStep), 2);
    }
    CHECK((frozen ? n.frozen.value() : n.free) == Approx(std::sqrt(squares)).epsilon(1e-3));
  }
  CHECK(n.free != Approx(n.frozen.value()).epsilon(1e-2));
}

// The reference study's chance levels of independent uniform sets.
TEST_CASE("token routes: overlap by chance", "[v-moe][routes][analysis]") {
  CHECK(chance_overlap(8, 1) == Approx(0.125));
  CHECK(chance_overlap(8, 2) == Approx(0.1786).epsilon(1e-3));
  CHECK(chance_overlap(16, 2) == Approx(0.0861).epsilon(1e-3));
  CHECK(chance_overlap(32, 1) == Approx(0.0312).epsilon(2e-3));
  CHECK(chance_overlap(4, 2) == Approx(0.3889).epsilon(1e-3));
  CHECK(chance_overlap(2, 2) == 1);
}

}  // namespace moat::tests
