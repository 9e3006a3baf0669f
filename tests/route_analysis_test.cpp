#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <numeric>

#include "attacks/victims.h"
#include "engine/ops/reduce.h"
#include "tests/models_fixture.h"
#include "tests/noise_set.h"
#include "train/analysis/routes.h"

namespace moat::tests {

using namespace engine;
using namespace train;

namespace {

// Images of noise, labelled as the model sees them.
data::ImageSet noise_for(const models::Classifier& model, int64_t n) {
  data::ImageSet set = noise_set(model.settings(), n, 6);
  set.labels =
      argmax(model.forward(data::batch_of(set).images, Mode::eval).logits, 1).to_vector<int32_t>();
  return set;
}

struct Scene {
  models::Classifier model;
  data::ImageSet set;
  explicit Scene(const models::ClassifierSettings& settings, int64_t n = 24) : model(settings, 3) {
    stir(model);
    set = noise_for(model, n);
    if (!model.is_routed()) return;
    balance_router(model, data::batch_of(set).images, {0, 0}, Mode::eval);
    balance_classes(model, data::batch_of(set).images);
    set = noise_for(model, n);  // labelled anew
  }
};

const AnalysisSettings kSettings{.threat = {.eps = 0.1}, .steps = 5, .batch = 7, .jacobian = 5};

int64_t total(const std::vector<int64_t>& counts) {
  return std::accumulate(counts.begin(), counts.end(), int64_t{0});
}

}  // namespace

TEST_CASE("route analysis: a router's use, moves and margins add up", "[routes][analysis]") {
  const Scene s(tiny_moe(2));
  const RouteAnalysis a = analyse_routes(s.model, s.set, kSettings);
  REQUIRE(a.conditions.size() == 5);
  const GateUse& clean = a.conditions[0].gates.at(0);
  CHECK(a.conditions[0].correct == 24);  // labelled by the model
  CHECK(clean.flipped == 0);
  CHECK(clean.overlap == 1);
  const std::vector<int32_t> routes =
      s.model.forward(data::batch_of(s.set).images, Mode::eval).experts.to_vector<int32_t>();
  CHECK(clean.use[1] == std::count(routes.begin(), routes.end(), 1));
  for (const Condition& c : a.conditions) {
    INFO(c.name);
    const GateUse& g = c.gates.at(0);
    CHECK(total(g.use) == 24);
    const int64_t off_diagonal = g.moved[0][1] + g.moved[1][0];
    CHECK(g.flipped == Approx(double(off_diagonal) / 24));
    CHECK(g.overlap == Approx(1 - g.flipped));  // sets of one expert
    for (size_t from = 0; from < 2; ++from) CHECK(total(g.moved[from]) == clean.use[from]);
  }
  CHECK(a.conditions[4].gates[0].flipped >= a.conditions[1].gates[0].flipped);
  CHECK(a.margins.gaps.size() == 24);
  CHECK(std::is_sorted(a.margins.distances.begin(), a.margins.distances.end()));
  CHECK(a.margins.gaps.front() >= 0);
  const auto gaps = to_json(a)["score_gap"];  // nearest ranks: 1, 6, 12, 18, 24
  for (const auto& [name, rank] :
       {std::pair{"min", 1}, {"q25", 6}, {"median", 12}, {"q75", 18}, {"max", 24}})
    CHECK(gaps[name] == a.margins.gaps[static_cast<size_t>(rank - 1)]);
  // In batches of another size: the same.
  AnalysisSettings whole = kSettings;
  whole.batch = 256;
  CHECK(to_json(analyse_routes(s.model, s.set, whole)) == to_json(a));
}

TEST_CASE("route analysis: experts alone, left out, swapped and at random", "[routes][analysis]") {
  const Scene s(tiny_moe(2));
  const ExpertTests t = test_experts(s.model, s.set, kSettings);
  const Tensor images = data::batch_of(s.set).images;
  const auto right_along = [&](const std::vector<int32_t>& routes) {
    const auto predicted =
        argmax(s.model.forward_along(images, attacks::index_of(routes), Mode::eval), 1)
            .to_vector<int32_t>();
    int64_t right = 0;
    for (size_t i = 0; i < predicted.size(); ++i) right += predicted[i] == s.set.labels[i];
    return right;
  };
  std::vector<int32_t> own = s.model.forward(images, Mode::eval).experts.to_vector<int32_t>(),
                       second = own;
  for (int32_t& e : second) e = 1 - e;
  CHECK(t.alone == std::vector{right_along(std::vector<int32_t>(24, 0)),
                               right_along(std::vector<int32_t>(24, 1))});
  CHECK(t.dropped == std::vector{t.alone[1], t.alone[0]});  // of two, the other one remains
  CHECK(t.swapped == right_along(second));
  CHECK(right_along(own) == 24);
  CHECK(t.random >= std::min(t.swapped, int64_t{24}));
  CHECK(t.jump > t.weighted_jump);
  CHECK(t.weighted_jump >= t.jump / 2);  // the first of two has at least half of the weight
}

TEST_CASE("route analysis: a frozen route takes the router out of the Jacobian",
          "[routes][analysis]") {
  const Scene s(tiny_moe(2));
  const JacobianNorms n = jacobian_norms(s.model, s.set, kSettings);
  CHECK(n.images == 5);
  CHECK(n.frozen.value() > 0);
  CHECK(n.free != Approx(n.frozen.value()).epsilon(1e-3));
  // Along the frozen route it is the change of logits: a short step into a random direction.
  const data::ImageSet one = data::first_rows(s.set, 1);
  AnalysisSettings single = kSettings;
  single.jacobian = 1;
  const double norm = jacobian_norms(s.model, one, single).frozen.value();
  const Tensor x = data::batch_of(one).images;
  const Tensor route = s.model.forward(x, Mode::eval).experts;
  double squares = 0;
  const int directions = 64;
  for (int d = 0; d < directions; ++d) {
    const Tensor u =
        random_normal(x.shape(), row_numbers(1), {.seed = 7, .stream = uint32_t(d)}, 0, 1);
    const auto
        a = s.model.forward_along(add(x, scale(u, 1e-3)), route, Mode::eval).to_vector<float>(),
        b = s.model.forward_along(add(x, scale(u, -1e-3)), route, Mode::eval).to_vector<float>();
    for (size_t i = 0; i < a.size(); ++i) squares += std::pow((a[i] - b[i]) / 2e-3, 2) / directions;
  }
  CHECK(std::sqrt(squares) == Approx(norm).epsilon(0.3));  // E ‖J u‖² = ‖J‖²
}

TEST_CASE("route analysis: parts withstand no less than they are, and no more than clean",
          "[routes][analysis]") {
  const Scene s(tiny_moe(2));
  AnalysisSettings none = kSettings;
  none.threat.eps = 0;
  const ComponentRobustness clean = component_robustness(s.model, s.set, none);
  for (int64_t count :
       {clean.whole, clean.experts.value(), clean.experts_true, clean.router_true, clean.joint})
    CHECK(count == 24);
  const ComponentRobustness r = component_robustness(s.model, s.set, kSettings);
  CHECK(r.whole < 24);
  int64_t agreed = 0;  // where both experts are right no router does harm
  const Tensor images = data::batch_of(s.set).images;
  const auto along = [&](int e) {
    return argmax(s.model.forward_along(images, Tensor::full({24}, e, Dtype::i32), Mode::eval), 1)
        .to_vector<int32_t>();
  };
  const auto first = along(0), second = along(1);
  for (size_t i = 0; i < 24; ++i)
    agreed += first[i] == s.set.labels[i] && second[i] == s.set.labels[i];
  CHECK(r.router.value() >= agreed);
  CHECK(r.experts.value() <= 24);
  CHECK(to_json(r, 24)["whole"] == double(r.whole) / 24);
}

// Along the top expert alone it would be another model, that is wrong about images of its own.
TEST_CASE("route analysis: nothing is frozen of a soft gate", "[routes][analysis]") {
  models::ClassifierSettings soft = tiny_moe(3);
  soft.active = 2;
  const models::ClassifierSettings dual = models::dual_of(
      "dual", {.standard = soft, .robust = tiny_moe(2), .alpha = 0.5, .average = {}});
  for (const models::ClassifierSettings& settings : {soft, dual}) {
    INFO(settings.name);
    models::Classifier model(settings, 3);
    stir(model);
    const data::ImageSet set = noise_for(model, 6);
    const JacobianNorms n = jacobian_norms(model, set, kSettings);
    CHECK(n.free > 0);
    CHECK_FALSE(n.frozen);
    CHECK(to_json(n)["frozen"].is_null());
    AnalysisSettings none = kSettings;
    none.threat.eps = 0;
    const ComponentRobustness r = component_robustness(model, set, none);
    CHECK(r.whole == 6);
    CHECK_FALSE(r.experts);
    CHECK_FALSE(r.router);
    CHECK(to_json(r, 6)["experts"].is_null());
    CHECK(to_json(r, 6)["router"].is_null());
  }
}

TEST_CASE("route analysis: gates of tokens, and models without", "[routes][analysis]") {
  for (const models::ClassifierSettings& settings : small_families()) {
    if (settings.transformer.moe.blocks.empty()) continue;
    INFO(settings.name);
    const Scene s(settings, 8);
    AnalysisSettings far = kSettings;
    far.threat.eps = 0.3;
    const RouteAnalysis a = analyse_routes(s.model, s.set, far);
    CHECK(a.conditions.size() == 4);
    REQUIRE(a.conditions[0].gates.size() == settings.transformer.moe.blocks.size());
    CHECK(a.conditions[0].gates[0].overlap == 1);
    const int64_t tokens = total(a.conditions[0].gates[0].use) + a.conditions[0].gates[0].dropped;
    CHECK(tokens % (8 * settings.transformer.moe.active) == 0);
    CHECK(a.conditions[3].gates[0].flipped > 0);
    CHECK_THROWS_WITH(test_experts(s.model, s.set, kSettings), Catch::Contains("whole images"));
  }
  const Scene dense(tiny_dense(), 4);
  CHECK_THROWS_WITH(analyse_routes(dense.model, dense.set, kSettings), Catch::Contains("no gates"));
  CHECK_THROWS_WITH(component_robustness(dense.model, dense.set, kSettings),
                    Catch::Contains("whole images"));
}

}  // namespace moat::tests
