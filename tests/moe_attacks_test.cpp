#include "attacks/moe_attacks.h"

#include <catch2/catch.hpp>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "attacks/protocol_run.h"
#include "tests/attack_fixture.h"
#include "tests/linear_moe.h"
#include "train/objective.h"

namespace moat::tests {

using namespace engine;
using namespace attacks;
using attacks::Gate;
using Numbers = LinearMoe::Numbers;

namespace {

constexpr int kPixels = 8;
constexpr double kEps = 0.1;

// Two experts of two classes, label 0. Where the router's sum t = Σ ±(x_j - 1/2) is above 0.6 it
// takes expert 1. Expert 0 is never wrong, and its margin grows with t: who climbs its loss moves
// away from the boundary.
LinearMoe two_experts(double margin, const Numbers& slope) {
  LinearMoe moe(kPixels, 2, 2);
  moe.expert_bias[0] = 1.5;
  moe.expert_bias[2] = margin;
  moe.router_bias[1] = -0.6;
  for (size_t j = 0; j < kPixels; ++j) {
    const double sign = j % 2 ? 1 : -1;
    moe.router_weight[kPixels + j] = moe.expert_weight[j] = sign;
    moe.expert_weight[2 * kPixels + j] = sign * slope[j];
    moe.router_bias[1] -= sign / 2;
    moe.expert_bias[0] -= sign / 2;
    moe.expert_bias[2] -= sign * slope[j] / 2;
  }
  return moe;
}

// Expert 1 is wrong where t is above 0.8: its loss points across the boundary.
LinearMoe wrong_beyond() { return two_experts(1.6, Numbers(kPixels, -2)); }

// Expert 1's margin grows with the first four pixels' part of t: its loss points back over the
// boundary, and it is right where t is largest.
LinearMoe wrong_between() { return two_experts(-1, {5, 5, 5, 5, 0, 0, 0, 0}); }

// z_0 - z_1 of an expert.
double margin_of(const LinearMoe& moe, const Numbers& x, int e) {
  const Numbers z = moe.logits(x, e);
  return z[0] - z[1];
}

double lead_of(const LinearMoe& moe, const Numbers& x, int e) {
  const Numbers s = moe.scores(x);
  return s[size_t(e)] - s[size_t(1 - e)];
}

// The least margin of an expert in the part of the ball that is routed to it: a linear function on
// a polytope is least at a corner of it, which is one of the ball or lies on one of its edges.
double least_margin(const LinearMoe& moe, const Numbers& image, int e) {
  double least = std::numeric_limits<double>::infinity();
  for (unsigned corner = 0; corner < 1u << kPixels; ++corner) {
    Numbers x = image;
    for (size_t j = 0; j < kPixels; ++j) x[j] += corner >> j & 1 ? kEps : -kEps;
    const double lead = lead_of(moe, x, e);
    if (lead >= 0) least = std::min(least, margin_of(moe, x, e));
    for (size_t j = 0; j < kPixels; ++j) {
      Numbers other = x;
      other[j] += corner >> j & 1 ? -2 * kEps : 2 * kEps;
      const double end = lead_of(moe, other, e);
      if ((lead < 0) == (end < 0)) continue;
      other[j] = x[j] + (other[j] - x[j]) * lead / (lead - end);
      least = std::min(least, margin_of(moe, other, e));
    }
  }
  return least;
}

Victims victims_of(const LinearMoe& moe, int64_t n, double spread) {
  const Tensor images = random_uniform({n, 1, 1, moe.pixels}, row_numbers(n), {.seed = 3},
                                       0.5 - spread, 0.5 + spread);
  return {images, argmax(moe.model().forward(images, Gate::open).logits, 1), row_numbers(n), {}};
}

Pgd climb_of(int steps, double step) {
  return {.threat = {.eps = kEps}, .steps = steps, .step = step, .seed = 5};
}

// That it finds all that can be found, but for images within `slack` of it, and nothing else.
void check_finds(const LinearMoe& moe, const Victims& v, const AttackResult& found, double slack) {
  int64_t can = 0, cannot = 0;
  for (int64_t i = 0; i < v.size(); ++i) {
    const Numbers image = image_of(v.images, i), x = image_of(found.adversarial, i);
    REQUIRE(least_margin(moe, image, 0) > 0.1);  // the image's own expert stands
    const double least = least_margin(moe, image, 1);
    const bool is_fooled = found.fooled_at[size_t(i)] >= 0;
    INFO("image " << i << ": least margin " << least);
    if (least < -slack) CHECK(is_fooled);
    if (least > 0) CHECK_FALSE(is_fooled);
    ++(least < -slack ? can : cannot);
    if (is_fooled) {
      CHECK(moe.route(x) == 1);
      CHECK(margin_of(moe, x, 1) <= 0);
    }
    for (size_t j = 0; j < kPixels; ++j) CHECK(std::abs(x[j] - image[j]) <= kEps * (1 + 1e-6));
  }
  CHECK(can > 10);
  CHECK(cannot > 10);
}

struct Named {
  std::string name;
  Attack attack;
};

// Every form of an attack on a mixture, a few steps of each.
std::vector<Named> every_attack(double eps) {
  Pgd climb{.threat = {.eps = eps}, .steps = 4, .step = eps / 3, .seed = 5};
  const auto with = [&](const Objective& o) {
    Pgd a = climb;
    a.objective = o;
    return a;
  };
  return {
      {"frozen", frozen_route(climb)},
      {"second", second_route(climb)},
      {"every", every_route(climb)},
      {"router", router_only(climb)},
      {"joint", joint(climb, 1)},
      {"steer", steer_then_strike(climb, climb)},
      {"steer and hold",
       steer_then_strike(
           climb, with({.path = Path::given, .climbed = Climbed::both, .steer = Steer::towards}))},
      {"soft", with({.path = Path::soft})},
      {"soft backward", with({.path = Path::soft_backward})},
      {"smoothed", with({.loss = Loss::margin, .samples = 5})}};
}

}  // namespace

TEST_CASE("routes: a strike along each route, or after steering, crosses the boundary",
          "[attacks][routes]") {
  const LinearMoe moe = wrong_beyond();
  const Model model = moe.model();
  const Victims v = victims_of(moe, 64, 0.05);
  CHECK(v.labels.to_vector<int32_t>() == std::vector<int32_t>(64, 0));
  const Pgd climb = climb_of(20, kEps / 4);
  CHECK(count_fooled(pgd(model, v, climb)) == 0);
  CHECK(count_fooled(route_attack(model, v, frozen_route(climb))) == 0);
  const AttackResult every = route_attack(model, v, every_route(climb));
  check_finds(moe, v, every, 1e-4);
  for (int at : every.fooled_at) CHECK((at < 0 || (at > 20 && at <= 41)));  // in the second climb
  check_finds(moe, v, route_attack(model, v, second_route(climb)), 1e-4);
  check_finds(moe, v, route_attack(model, v, steer_then_strike(climb, climb)), 1e-4);
}

TEST_CASE("routes: moe-aa@1 crosses the boundary, PGD and a frozen route do not",
          "[attacks][routes]") {
  const LinearMoe moe = wrong_beyond();
  const Model model = moe.model();
  const Victims v = victims_of(moe, 12, 0.05);
  const ThreatModel threat{.eps = kEps};
  const ProtocolResult pgd_only =
      run_protocol(model, v, find_protocol("pgd-50@1", threat, 0, model));
  const ProtocolResult frozen =
      run_protocol(model, v, {"frozen", {{"frozen", frozen_route(climb_of(50, kEps / 4))}}});
  const ProtocolResult found = run_protocol(model, v, find_protocol("moe-aa@1", threat, 0, model));
  int64_t fooled = 0;
  for (int64_t i = 0; i < v.size(); ++i) {
    const auto row = static_cast<size_t>(i);
    CHECK(pgd_only.samples[row].fooled_by < 0);
    CHECK(frozen.samples[row].fooled_by < 0);
    const int by = found.samples[row].fooled_by;
    const double least = least_margin(moe, image_of(v.images, i), 1);
    if (std::abs(least) > 1e-3) CHECK((by >= 0) == (least < 0));
    fooled += by >= 0;
  }
  CHECK(fooled > 2);
}

TEST_CASE("routes: only steering first finds what lies behind the boundary", "[attacks][routes]") {
  const LinearMoe moe = wrong_between();
  const Model model = moe.model();
  const Victims v = victims_of(moe, 64, 0.05);
  const Pgd climb = climb_of(40, kEps / 20);
  for (const RouteAttack& none : {frozen_route(climb), every_route(climb)})
    CHECK(count_fooled(route_attack(model, v, none)) == 0);
  CHECK(count_fooled(pgd(model, v, climb)) == 0);
  Pgd along = climb;
  along.objective.path = Path::given;
  Pgd steer = climb_of(4, kEps);
  steer.start = Start::center;
  for (const Pgd& strike : {climb, along}) {
    const AttackResult found = route_attack(model, v, steer_then_strike(steer, strike));
    check_finds(moe, v, found, 5 * 4 * kEps / 20);  // what a step changes
    for (int at : found.fooled_at) CHECK((at < 0 || at >= 5));
  }
}

TEST_CASE("routes: an attack starts where it is told", "[attacks][routes]") {
  const LinearMoe moe = wrong_beyond();
  const Model model = moe.model();
  Victims v = victims_of(moe, 6, 0.05);
  Pgd a = climb_of(0, 0);
  a.start = Start::given;
  CHECK_THROWS_WITH(pgd(model, v, a), Catch::Contains("victims' start"));
  v.start = affine(v.images, 1, 0.07);
  CHECK(pgd(model, v, a).adversarial.to_vector<float>() ==
        ball_project(v.start, v.images, Norm::linf, kEps).to_vector<float>());
  v.start = affine(v.images, 1, 0.3);  // outside
  const auto x = pgd(model, v, a).adversarial.to_vector<float>();
  const auto images = v.images.to_vector<float>();
  for (size_t i = 0; i < x.size(); ++i) CHECK(x[i] - images[i] <= static_cast<float>(kEps));
  CHECK(constants_of(a)["start"] == "given");
}

TEST_CASE("routes: an image's result is its own, in batches of 1, 7 and 256", "[attacks][routes]") {
  const LinearMoe moe = random_linear_moe(kPixels, 3, 3);
  const Model model = moe.model();
  const Victims v = victims_of(moe, 256, 0.5);
  std::vector<int32_t> backwards, seven = {40, 3, 171, 21, 8, 255, 100}, one = {77};
  for (int32_t i = 255; i >= 0; --i) backwards.push_back(i);
  for (const Named& named : every_attack(0.04)) {
    INFO(named.name << " " << constants_of(named.attack).dump());
    moe.calls = 0;
    const AttackResult whole = run(model, v, named.attack);
    CHECK(moe.calls == whole.forwards);
    CHECK(count_fooled(whole) > 5);
    CHECK(count_fooled(whole) < 250);
    const auto after =
        argmax(model.forward(whole.adversarial, Gate::open).logits, 1).to_vector<int32_t>();
    for (size_t i = 0; i < 256; ++i)
      CHECK((after[i] != v.labels.data_as<int32_t>()[i]) == (whole.fooled_at[i] >= 0));
    for (const auto& rows : {backwards, seven, one}) {
      const AttackResult part = run(model, v.rows(rows), named.attack);
      CHECK(part.adversarial.to_vector<float>() ==
            gather_rows(whole.adversarial, index_of(rows)).to_vector<float>());
      std::vector<int> expected;
      for (int32_t row : rows) expected.push_back(whole.fooled_at[size_t(row)]);
      CHECK(part.fooled_at == expected);
    }
  }
}

TEST_CASE("routes: forwards and backwards of attacks that find nothing", "[attacks][routes]") {
  LinearMoe moe = random_linear_moe(kPixels, 2, 3);
  for (size_t e = 0; e < 3; ++e) moe.expert_bias[2 * e] = 1000;  // every expert says 0
  const Model model = moe.model();
  const Victims v = victims_of(moe, 6, 0.5);
  const Pgd climb = climb_of(4, 0.01);
  struct Row {
    RouteAttack attack;
    int64_t forwards, backwards;  // per image: its routes, then 4 looks with a gradient and one
  };
  for (const Row& row : {Row{frozen_route(climb), 1 + 2 * 5, 4},
                         {second_route(climb), 1 + 2 * 5, 4},
                         {every_route(climb), 1 + 3 * 2 * 5, 3 * 4},
                         {router_only(climb), 1 + 5, 4},
                         {joint(climb, 1), 1 + 2 * 5, 2 * 4},
                         {steer_then_strike(climb, climb), 1 + 2 * 2 * 5, 2 * 2 * 4}}) {
    INFO(constants_of(row.attack).dump());
    const AttackResult r = route_attack(model, v, row.attack);
    CHECK(count_fooled(r) == 0);
    CHECK(r.forwards == 6 * row.forwards);
    CHECK(r.backwards == 6 * row.backwards);
    CHECK(most_passes(row.attack, 3) == row.forwards + row.backwards);
  }
}

// Routes are ranked at the image: of each image another one is its own, its second and so on.
TEST_CASE("routes: which route is which", "[attacks][routes]") {
  LinearMoe moe(1, 2, 3);
  moe.expert_bias = {1, 0, 1, 0, 1, 0};
  Model model = moe.model();
  const auto scores = std::vector<float>{3, 1, 2, 0, 5, 5, 2, 2, 2};
  std::vector<std::vector<int32_t>> seen;
  model.forward = [&](const Tensor& images, Gate) {
    const Tensor s = Tensor::from(scores, {3, 3});
    return Outputs{Tensor::from(std::vector<float>{1, 0, 1, 0, 1, 0}, {images.dim(0), 2}),
                   argmax(s, 1), s};
  };
  model.along = [&](const Tensor&, const Tensor& route) {
    seen.push_back(route.to_vector<int32_t>());
    return Tensor::from(std::vector<float>{1, 0, 1, 0, 1, 0}, {3, 2});
  };
  const Victims v{Tensor::zeros({3, 1, 1, 1}), Tensor::zeros({3}, Dtype::i32), row_numbers(3), {}};
  const auto routes_of = [&](const RouteAttack& a) {
    seen.clear();
    route_attack(model, v, a);
    return seen;
  };
  using Seen = std::vector<std::vector<int32_t>>;
  const Pgd look = climb_of(0, 0);
  CHECK(routes_of(frozen_route(look)) == Seen{{0, 1, 0}});
  CHECK(routes_of(second_route(look)) == Seen{{2, 2, 1}});
  CHECK(routes_of(every_route(look)) == Seen{{0, 1, 0}, {2, 2, 1}, {1, 0, 2}});
  RouteAttack others = every_route(look);
  others.routes = Routes::others;
  CHECK(routes_of(others) == Seen{{2, 2, 1}, {1, 0, 2}});
}

TEST_CASE("routes: each route starts where the first did", "[attacks][routes]") {
  LinearMoe moe = random_linear_moe(kPixels, 2, 3);
  for (size_t e = 0; e < 3; ++e) moe.expert_bias[2 * e] = 10;  // every expert says 0
  Model model = moe.model();
  std::vector<std::vector<float>> looks;
  model.along = [&, along = model.along](const Tensor& images, const Tensor& route) {
    looks.push_back(images.to_vector<float>());
    return along(images, route);
  };
  Victims v = victims_of(moe, 4, 0.2);
  v.start = affine(v.images, 1, 0.05);
  Pgd climb = climb_of(2, 0.03);
  climb.start = Start::given;
  CHECK(count_fooled(route_attack(model, v, every_route(climb))) == 0);
  REQUIRE(looks.size() == 3 * 3);
  for (size_t i : {0, 3, 6}) CHECK(looks[i] == v.start.to_vector<float>());
  CHECK(looks[2] != looks[0]);
}

TEST_CASE("routes: what is missing is named", "[attacks][routes]") {
  const LinearMoe moe = wrong_beyond();
  const Victims v = victims_of(moe, 4, 0.05);
  Model model = moe.model();
  Pgd last = climb_of(2, 0.01);
  last.keep = Keep::last;
  CHECK_THROWS_WITH(route_attack(model, v, frozen_route(last)), Catch::Contains("the worst point"));
  model.forward = [&](const Tensor& x, Gate g) {
    return Outputs{moe.model().forward(x, g).logits};
  };
  CHECK_THROWS_WITH(route_attack(model, v, frozen_route(climb_of(2, 0.01))),
                    Catch::Contains("a model with scores"));
  model.along = {};
  CHECK_THROWS_WITH(route_attack(model, v, frozen_route(climb_of(2, 0.01))),
                    Catch::Contains("a model with routes"));
}

TEST_CASE("routes: the constants of both stages are printed", "[attacks][routes]") {
  const auto json = constants_of(Attack{steer_then_strike(climb_of(3, 0.01), climb_of(7, 0.02))});
  CHECK(json["routes"] == "others by falling score");
  CHECK(json["steer"]["steps"] == 3);
  CHECK(json["steer"]["climbed"] == "router");
  CHECK(json["steer"]["steer"] == "towards");
  CHECK(json["strike"]["steps"] == 7);
  CHECK(json["strike"]["start"] == "given");
  CHECK_FALSE(constants_of(Attack{frozen_route(climb_of(3, 0.01))}).contains("steer"));
}

// Every route of a dual model is one of each part's.
TEST_CASE("routes: of a dual model", "[attacks][routes]") {
  const models::ClassifierSettings parts[] = {tiny_moe(2), tiny_moe(3), tiny_dense()};
  for (const auto& [standard, robust] : {std::pair{0, 1}, {1, 0}, {2, 1}, {1, 2}})
    for (models::Average average : {models::Average::logits, models::Average::probabilities}) {
      models::Classifier model(models::dual_of("pair", {.standard = parts[standard],
                                                        .robust = parts[robust],
                                                        .alpha = 0.3,
                                                        .average = average}),
                               2);
      stir(model);
      const Tensor x = random_images(12, model.settings().dual->standard);
      for (models::Classifier* part : {&model.standard(), &model.robust()})
        if (part->is_routed())
          balance_router(*part, x, std::vector<double>(size_t(part->routes()), 0), Mode::eval);
      const Model seen = train::attack_model(model);
      const Outputs out = seen.forward(x, Gate::open);
      CHECK(seen.routes == parts[standard].experts * parts[robust].experts);
      CHECK(out.scores.dim(1) == seen.routes);
      const auto taken = out.experts.to_vector<int32_t>();
      CHECK(std::set<int32_t>(taken.begin(), taken.end()).size() > 1);
      CHECK(argmax(out.scores, 1).to_vector<int32_t>() == out.experts.to_vector<int32_t>());
      CHECK(seen.along(x, out.experts).to_vector<float>() == out.logits.to_vector<float>());
      const auto along = [&](const models::Classifier& part, int32_t route) {
        const Tensor routes = index_of(std::vector<int32_t>(12, route));
        return (part.is_routed() ? part.forward_along(x, routes, Mode::eval)
                                 : part.forward(x, Mode::eval).logits)
            .to_vector<float>();
      };
      for (int32_t r = 0; r < seen.routes && average == models::Average::logits; ++r) {
        const auto found = seen.along(x, index_of(std::vector<int32_t>(12, r))).to_vector<float>();
        const auto s = along(model.standard(), r / parts[robust].experts),
                   t = along(model.robust(), r % parts[robust].experts);
        for (size_t i = 0; i < found.size(); ++i)
          CHECK(found[i] ==
                Approx(0.7 * double(s[i]) + 0.3 * double(t[i])).epsilon(1e-5).margin(1e-6));
      }
    }
}

TEST_CASE("routes: an attack meets gates through and blocked where its gradient passes any",
          "[attacks][routes]") {
  const models::Classifier routed(tiny_moe(2), 1), dense(tiny_dense(), 1);
  const Model gated = train::attack_model(routed), plain = train::attack_model(dense);
  const auto gates = [](const std::vector<NamedAttack>& forms) {
    std::vector<std::string> said;
    for (NamedAttack form : forms) {
      said.push_back(form.name + ":");
      for (const Gate* gate : gates_of(form.attack)) said.back() += name_of(*gate);
    }
    return said;
  };
  using Said = std::vector<std::string>;
  const auto at_gates = [&](const Attack& attack, const Model& model) {
    return gates(at_both_gates("a", attack, Against::correct, model));
  };
  Transfer from_gated, from_plain;
  from_gated.source = gated;
  from_plain.source = plain;
  for (const Attack& attack : {Attack{Pgd{}}, Attack{Apgd{}}, Attack{Fab{}}, Attack{DeepFool{}},
                               Attack{CarliniWagner{}}, Attack{joint(Pgd{}, 1)}}) {
    CHECK(at_gates(attack, gated) == Said{"a through:through", "a blocked:blocked"});
    CHECK(at_gates(attack, plain) == Said{"a:through"});
  }
  CHECK(at_gates(steer_then_strike({}, {}), gated) ==
        Said{"a through:throughthrough", "a blocked:blockedblocked"});
  for (const Attack& attack : {Attack{Square{}}, Attack{Noise{}}, Attack{frozen_route(Pgd{})},
                               Attack{every_route(Apgd{})}, Attack{router_only(Pgd{})}})
    CHECK(at_gates(attack, gated) == Said{"a:"});
  // Of a transfer they are the source's.
  CHECK(at_gates(from_gated, plain) == Said{"a through:through", "a blocked:blocked"});
  CHECK(at_gates(from_plain, gated) == Said{"a:blocked"});
}

TEST_CASE("routes: gates of tokens are attacked through and blocked as well", "[attacks][routes]") {
  for (const models::ClassifierSettings& s : small_families()) {
    const models::Classifier model(s, 1);
    const Model seen = train::attack_model(model);
    INFO(s.name);
    const bool has_gates = s.experts > 1 || s.name == "v-moe" || s.name == "dual";
    CHECK(model.has_gates() == has_gates);
    CHECK(find_protocol("pgd-10@1", {}, 0, seen).attacks.size() == (has_gates ? 2 : 1));
    CHECK(bool(seen.along) == model.is_routed());
    if (!has_gates) continue;
    const Tensor x = random_images(4, model.settings().dual ? s.dual->standard : s);
    const Victims v{x, random_labels(4, 5), row_numbers(4), {}};
    const auto gradient = [&](Gate gate) {
      return with_gradient(seen, x, v, {.gate = gate}).gradient.to_vector<float>();
    };
    CHECK(gradient(Gate::open) != gradient(Gate::blocked));
  }
}

}  // namespace moat::tests
