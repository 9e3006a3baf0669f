#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "attacks/attack.h"
#include "attacks/logit_slopes.h"
#include "tests/minimal_attack_fixture.h"

namespace moat::tests {

using namespace engine;
using namespace attacks;
using attacks::Gate;

TEST_CASE("logit slopes: a pass that is kept gives each gradient as a fresh one does",
          "[minimal_attacks]") {
  for (const models::ClassifierSettings& settings : small_families()) {
    INFO(settings.name);
    models::Classifier classifier(settings, 3);
    stir(classifier);
    const Model model = train::attack_model(classifier);
    const Tensor x = random_images(6, settings);
    const std::vector<int32_t> labels(6, 0);
    LogitSlopes kept(model, x, Gate::open);
    for (int32_t to : {1, 2, 1, 3}) {
      LogitSlopes fresh(model, x, Gate::open);
      const std::vector<int32_t> target(6, to);
      const Planes one = kept.planes(target, labels, BackwardPass::not_last),
                   two = fresh.planes(target, labels);
      CHECK(one.gradient.to_vector<float>() == two.gradient.to_vector<float>());
      CHECK(one.differences == two.differences);
    }
  }
}

TEST_CASE("logit slopes: the nearest of the planes, and ranks", "[minimal_attacks]") {
  const LinearScene scene(9, 4, 0.4, 0.6, 0.1);
  const std::vector<int32_t> labels(9, 0);
  for (Norm norm : {Norm::linf, Norm::l2}) {
    std::vector<std::vector<int32_t>> to;
    for (int32_t c : {3, 1, 2}) to.emplace_back(9, c);
    LogitSlopes pass(scene.model(), scene.victims.images, Gate::open);
    const Planes nearest = pass.nearest_planes(to, labels, norm);
    for (size_t i = 0; i < 9; ++i)
      CHECK(-nearest.differences[i] / nearest.dual_norms[i] ==
            Approx(scene.distance(int64_t(i), norm)).epsilon(1e-5));
  }
  const Model fixed{.forward = [](const Tensor& x, Gate) {
    return Outputs{add(Tensor::from<float>({3, 7, 7, std::nanf(""), 9}, {1, 5}),
                       Tensor::zeros({x.dim(0), 5}))};
  }};
  const LogitSlopes ranked(fixed, Tensor::zeros({2, 1}), Gate::open);
  CHECK(ranked.ranking(0, 4) == std::vector<int32_t>{1, 2, 0, 3});
  CHECK(ranked.ranking(1, 1) == std::vector<int32_t>{4, 2, 0, 3});
}

TEST_CASE("deepfool: steps onto the nearest plane of a linear model, and 2 % beyond",
          "[minimal_attacks]") {
  const LinearScene scene(20, 5, 0.4, 0.6, 0.1);
  for (Norm norm : {Norm::linf, Norm::l2}) {
    Watched watched;
    const DeepFool a{.threat = {.norm = norm, .eps = 0}};
    const Nearest found = deepfool_nearest(watched.model(scene.model()), scene.victims, a);
    for (int64_t i = 0; i < 20; ++i) {
      const double least = scene.distance(i, norm);
      CHECK(found.distance[size_t(i)] == Approx(1.02 * least).epsilon(3e-6));
      CHECK(found.found_at[size_t(i)] == 1);
    }
    CHECK(found.forwards == 2 * 20);
    CHECK(found.backwards == 4 * 20);
    CHECK(watched.forwards == found.forwards);
    CHECK(watched.backwards == found.backwards);
    // Projected on the ball the point is on the way to the plane, or through it.
    for (int64_t i = 0; i < 20; ++i)
      for (double factor : {1 - 1e-5, 1 + 1e-5}) {
        DeepFool b = a;
        b.threat.eps = factor * scene.distance(i, norm);
        const Victims one = scene.victims.rows({static_cast<int32_t>(i)});
        const AttackResult r = deepfool(scene.model(), one, b);
        CHECK((r.fooled_at[0] >= 0) == (factor > 1));
        CHECK(r.forwards == 3);
      }
  }
}

TEST_CASE("deepfool: takes the best classes alone", "[minimal_attacks]") {
  // The nearest boundary is that of the least logit's class: among two classes it is not seen.
  LinearScene scene(4, 3, 0.4, 0.6, 0.1);
  double size = 0, sum = 0;
  for (int64_t p = 0; p < LinearScene::kPixels; ++p) {
    double& w = scene.weight.data_as<double>()[2 * LinearScene::kPixels + p];
    w *= 100;
    size += std::abs(w);
    sum += w;
  }
  scene.bias.data_as<double>()[2] = -sum / 2 - 0.04 * size;
  const auto found_among = [&](int classes) {
    return deepfool_nearest(scene.model(), scene.victims,
                            {.threat = {.eps = 0}, .classes = classes});
  };
  const Nearest two = found_among(2), three = found_among(3);
  for (size_t i = 0; i < 4; ++i) CHECK(three.distance[i] < two.distance[i]);
  CHECK(two.backwards == 4);
  CHECK(three.backwards == 8);
}

TEST_CASE("carlini-wagner: comes close to the boundary of a linear model (L2)",
          "[minimal_attacks]") {
  const LinearScene scene(6, 3, 0.4, 0.6, 0.05);
  const CarliniWagner a{.threat = {Norm::l2, 0}, .steps = 150, .goal = Goal::minimise};
  const Nearest found = carlini_wagner_nearest(scene.model(), scene.victims, a);
  for (int64_t i = 0; i < 6; ++i) {
    const double least = scene.distance(i, Norm::l2);
    CHECK(found.distance[size_t(i)] >= least * (1 - 1e-6));
    CHECK(found.distance[size_t(i)] <= least * 1.03);
    const Victims one = scene.victims.rows({static_cast<int32_t>(i)});
    for (double factor : {1 - 1e-5, 1.05}) {
      CarliniWagner b = a;
      b.threat.eps = factor * least;
      b.goal = Goal::fool;
      const AttackResult r = carlini_wagner(scene.model(), one, b);
      CHECK((r.fooled_at[0] >= 0) == (factor > 1));
      check_in_ball_and_box(r.adversarial, one.images, b.threat);
    }
  }
}

TEST_CASE("carlini-wagner: each search's c follows from those before", "[minimal_attacks]") {
  // One pixel, z = (0, 2 (x - 0.4) - 0.6): (x - 0.4)² + 2c (0.7 - x) is least at x = 0.4 + c, or at
  // the boundary from c = 0.3 on. So where a search ends shows its c.
  const Model slope{.forward = [](const Tensor& x, Gate) {
    const Tensor z = affine(reshape(x, {x.dim(0), 1}), 2, -1.4);
    return Outputs{concat({Tensor::zeros(z.shape()), z}, 1)};
  }};
  const Victims one{
      Tensor::full({1, 1, 1, 1}, 0.4), Tensor::zeros({1}, Dtype::i32), row_numbers(1), {}};
  Watched watched;
  carlini_wagner_nearest(watched.model(slope), one,
                         {.steps = 500, .searches = 7, .first_c = 0.01, .goal = Goal::minimise});
  std::vector<float> ends;
  const float start = watched.points[0].to_vector<float>()[0];
  for (size_t i = 1; i < watched.points.size(); ++i)
    if (watched.points[i].to_vector<float>()[0] == start)
      ends.push_back(watched.points[i - 1].to_vector<float>()[0]);
  ends.push_back(watched.points.back().to_vector<float>()[0]);
  // c: up tenfold to 1, which fools, then bisection: 0.55 and 0.325 fool, 0.2125 does not.
  const std::vector<double> expected = {0.41, 0.5, 0.7, 0.7, 0.7, 0.6125, 0.66875};
  REQUIRE(ends.size() == expected.size());
  for (size_t i = 0; i < ends.size(); ++i) CHECK(ends[i] == Approx(expected[i]).margin(0.01));
}

TEST_CASE("carlini-wagner: every pass is counted, and a search that stalls ends",
          "[minimal_attacks]") {
  // Without a gradient of the logits the distance alone is minimised: after a tenth of the steps
  // it does not fall any more.
  const Model deaf{.forward = [](const Tensor& x, Gate) {
    return Outputs{add(Tensor::from<float>({1, 0}, {1, 2}), Tensor::zeros({x.dim(0), 2}))};
  }};
  const LinearScene scene(5, 2, 0.4, 0.6, 0.1);
  Watched watched;
  const AttackResult r =
      carlini_wagner(watched.model(deaf), scene.victims, {.steps = 40, .searches = 3});
  CHECK(count_fooled(r) == 0);
  CHECK(r.forwards == watched.forwards);
  CHECK(r.forwards == r.backwards);
  CHECK(r.forwards <= 3 * 5 * 9);
  CHECK(r.adversarial.to_vector<float>() == scene.victims.images.to_vector<float>());
  // With one, no search ends before its time while the loss falls.
  Watched falling;
  const CarliniWagner b{.threat = {Norm::l2, 0.01}, .steps = 10, .searches = 2, .first_c = 10};
  const AttackResult s = carlini_wagner(falling.model(scene.model()), scene.victims, b);
  CHECK(s.forwards == falling.forwards);
  CHECK(s.backwards == falling.backwards);
}

TEST_CASE("minimal-norm attacks: in ball and box, verdicts are the model's", "[minimal_attacks]") {
  const RoutedScene scene(32);
  for (double eps : {0.0, 1e-7, 0.5, 1.0}) {
    for (Norm norm : {Norm::linf, Norm::l2}) {
      const DeepFool a{.threat = {norm, eps}};
      const AttackResult r = deepfool(scene.model(), scene.victims, a);
      check_in_ball_and_box(r.adversarial, scene.victims.images, a.threat);
      check_verdicts(scene.model(), scene.victims, r);
      if (eps == 0) CHECK(count_fooled(r) == 0);
      if (eps == 1) CHECK(count_fooled(r) > 16);
    }
    for (Goal goal : {Goal::fool, Goal::minimise}) {
      const CarliniWagner a{
          .threat = {Norm::l2, eps}, .steps = 10, .searches = 3, .first_c = 1, .goal = goal};
      const AttackResult r = carlini_wagner(scene.model(), scene.victims, a);
      check_in_ball_and_box(r.adversarial, scene.victims.images, a.threat);
      check_verdicts(scene.model(), scene.victims, r);
    }
  }
}

TEST_CASE("minimal-norm attacks: an image's result is its own", "[minimal_attacks]") {
  const RoutedScene scene(256);
  for (Norm norm : {Norm::linf, Norm::l2}) {
    const DeepFool a{.threat = {norm, norm == Norm::linf ? 0.06 : 0.5}, .steps = 8, .classes = 3};
    const AttackResult whole = deepfool(scene.model(), scene.victims, a);
    CHECK(count_fooled(whole) > 20);
    CHECK(count_fooled(whole) < 236);
    check_own_result(scene.victims, whole,
                     [&](const Victims& v) { return deepfool(scene.model(), v, a); });
  }
  const CarliniWagner b{.threat = {Norm::l2, 0.6}, .steps = 20, .searches = 4, .first_c = 1};
  const AttackResult whole = carlini_wagner(scene.model(), scene.victims, b);
  CHECK(count_fooled(whole) > 20);
  CHECK(count_fooled(whole) < 236);
  check_own_result(scene.victims, whole,
                   [&](const Victims& v) { return carlini_wagner(scene.model(), v, b); });
}

TEST_CASE("minimal-norm attacks: among the attacks, with all their constants",
          "[minimal_attacks]") {
  CHECK(constants_of(DeepFool{}).dump() ==
        R"({"steps":50,"overshoot":0.02,"classes":10,"gate":"through"})");
  CHECK(constants_of(CarliniWagner{}).dump() ==
        R"({"steps":1000,"searches":9,"first c":0.001,"learning rate":0.01,)"
        R"("adam":[0.9,0.999,1e-08],"confidence":0,"checks of progress":10,"progress":0.9999,)"
        R"("goal":"a point within eps","gate":"through"})");
  const LinearScene scene(3, 3, 0.4, 0.6, 0.1);
  const DeepFool a{.threat = {.eps = 0.2}};
  CHECK(run(scene.model(), scene.victims, a).adversarial.to_vector<float>() ==
        deepfool(scene.model(), scene.victims, a).adversarial.to_vector<float>());
  const CarliniWagner b{.steps = 5, .first_c = 10};
  CHECK(run(scene.model(), scene.victims, b).adversarial.to_vector<float>() ==
        carlini_wagner(scene.model(), scene.victims, b).adversarial.to_vector<float>());
}

TEST_CASE("minimal-norm attacks: say what must hold", "[minimal_attacks]") {
  const LinearScene scene(1, 2, 0.4, 0.6, 0.1);
  CHECK_THROWS_WITH(deepfool(scene.model(), scene.victims, {.classes = 1}),
                    "deepfool: steps and eps must be >= 0, classes >= 2");
  CHECK_THROWS_WITH(carlini_wagner(scene.model(), scene.victims, {.threat = {Norm::linf, 0.1}}),
                    "carlini_wagner: minimises the L2 norm, and the threat's must be l2, got linf");
  CHECK_THROWS_WITH(carlini_wagner(scene.model(), scene.victims, {.searches = 0}),
                    Catch::Contains("searches >= 1"));
  const LinearScene one_class(1, 1, 0.4, 0.6, 0.1);
  CHECK_THROWS_WITH(deepfool(one_class.model(), one_class.victims, {}),
                    Catch::Contains("two classes"));
}

}  // namespace moat::tests
