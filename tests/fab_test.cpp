#include "attacks/fab.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "attacks/attack.h"
#include "tests/minimal_attack_fixture.h"

namespace moat::tests {

using namespace engine;
using namespace attacks;
using attacks::Gate;

namespace {

// Every step and the end in one place: what is found does not depend on luck.
Fab thorough(Norm norm, double eps, int64_t classes) {
  return {.threat = {norm, eps},
          .steps = 20,
          .targets = static_cast<int>(classes - 1),
          .bisections = 30,
          .goal = Goal::minimise};
}

// A pixel of float32 in [0.5, 1) is known to 3e-8.
double slack(double distance, Norm norm) {
  return 1e-6 * distance + (norm == Norm::linf ? 6e-8 : 0);
}

}  // namespace

TEST_CASE("fab: finds the nearest boundary of a linear model, away from the walls", "[fab]") {
  const LinearScene scene(20, 5, 0.4, 0.6, 0.1);
  for (Norm norm : {Norm::linf, Norm::l2})
    for (int targets : {4, 0}) {
      Fab a = thorough(norm, 0, 5);
      a.targets = targets;
      const Nearest found = fab_nearest(scene.model(), scene.victims, a);
      for (int64_t i = 0; i < 20; ++i) {
        double closed_form = 1e9;
        for (int64_t c = 1; c < 5; ++c) {
          double z = scene.bias.data_as<double>()[c], one = 0, two = 0;
          for (int64_t p = 0; p < LinearScene::kPixels; ++p) {
            const double w = scene.weight.data_as<double>()[c * LinearScene::kPixels + p];
            z += w * scene.victims.images.data_as<float>()[i * LinearScene::kPixels + p];
            one += std::abs(w);
            two += w * w;
          }
          closed_form = std::min(closed_form, -z / (norm == Norm::linf ? one : std::sqrt(two)));
        }
        INFO("image " << i << ", norm " << int(norm) << ", targets " << targets);
        CHECK(scene.distance(i, norm) == Approx(closed_form).epsilon(1e-9));
        CHECK(std::abs(found.distance[size_t(i)] - closed_form) <= slack(closed_form, norm));
      }
    }
}

// Exact in powers of two; 2^-30 is about 1e-9.
TEST_CASE("fab: logits of another scale have the same boundaries in Linf", "[fab]") {
  LinearScene scene(10, 5, 0.1, 0.9, 0.1);
  const Fab a = thorough(Norm::linf, 0, 5);
  const Nearest as_is = fab_nearest(scene.model(), scene.victims, a);
  scene.weight = scale(scene.weight, 0x1p-30);
  scene.bias = scale(scene.bias, 0x1p-30);
  CHECK(fab_nearest(scene.model(), scene.victims, a).distance == as_is.distance);
  CHECK(*std::max_element(as_is.distance.begin(), as_is.distance.end()) < 1);
}

// Where the step ends on the plane and not beyond it, the first one is the answer.
TEST_CASE("fab: finds the nearest boundary of a linear model at the walls", "[fab]") {
  const LinearScene scene(20, 3, 0, 1, 0.1);
  for (Norm norm : {Norm::linf, Norm::l2}) {
    Fab a = thorough(norm, 0, 3);
    const Nearest usual = fab_nearest(scene.model(), scene.victims, a);
    a.overshoot = 1 + 1e-6;
    a.steps = 2;
    const Nearest found = fab_nearest(scene.model(), scene.victims, a);
    for (int64_t i = 0; i < 20; ++i) {
      const double least = scene.distance(i, norm);
      INFO("image " << i << ", norm " << int(norm) << ", least " << least);
      CHECK(found.distance[size_t(i)] >= least - slack(least, norm));
      CHECK(found.distance[size_t(i)] <= least + 2 * slack(least, norm));
      // Beyond the plane, pixels at the wall are a little short and the others pay for it.
      CHECK(usual.distance[size_t(i)] >= least - slack(least, norm));
      CHECK(usual.distance[size_t(i)] <= 1.02 * least);
    }
  }
}

TEST_CASE("fab: an eps just below the distance resists, one just above is fooled", "[fab]") {
  const bool at_walls = GENERATE(false, true);
  const LinearScene scene(12, 3, at_walls ? 0 : 0.4, at_walls ? 1 : 0.6, 0.1);
  for (Norm norm : {Norm::linf, Norm::l2})
    for (int64_t i = 0; i < 12; ++i) {
      const double least = scene.distance(i, norm);
      const Victims one = scene.victims.rows({static_cast<int32_t>(i)});
      for (double factor : {1 - 1e-5, 1 + 1e-5}) {
        Fab a = thorough(norm, least * factor, 3);
        a.goal = Goal::fool;
        if (at_walls) a.overshoot = 1 + 1e-6;
        const AttackResult r = fab(scene.model(), one, a);
        INFO("image " << i << ", norm " << int(norm) << ", eps / distance " << factor);
        CHECK((r.fooled_at[0] >= 0) == (factor > 1));
        check_in_ball_and_box(r.adversarial, one.images, a.threat);
        check_verdicts(scene.model(), one, r);
      }
    }
}

TEST_CASE("fab: every pass is counted", "[fab]") {
  const LinearScene far(5, 4, 0.4, 0.6, 3);  // no boundary in the box
  {
    Watched watched;
    const Fab a{.threat = {.eps = 0.1}, .steps = 7, .targets = 2, .restarts = 3};
    const AttackResult r = fab(watched.model(far.model()), far.victims, a);
    CHECK(count_fooled(r) == 0);
    CHECK(r.forwards == 2 * 3 * 8 * 5);
    CHECK(r.backwards == 2 * 3 * 7 * 5);
    CHECK(watched.forwards == r.forwards);
    CHECK(watched.backwards == r.backwards);
    CHECK(r.adversarial.to_vector<float>() == far.victims.images.to_vector<float>());
  }
  {
    Watched watched;  // untargeted: a backward pass for each of the three other classes
    const Fab a{.threat = {.eps = 0.1}, .steps = 7, .targets = 0};
    const AttackResult r = fab(watched.model(far.model()), far.victims, a);
    CHECK(r.forwards == 8 * 5);
    CHECK(r.backwards == 3 * 7 * 5);
    CHECK(watched.forwards == r.forwards);
    CHECK(watched.backwards == r.backwards);
  }
  {
    // Misclassified at every point but the first, and never within eps: each of these is looked at,
    // then the one further back is differentiated. The verdict is one more.
    const LinearScene near(5, 2, 0.4, 0.6, 0.1);
    Watched watched;
    const Fab a{.threat = {.eps = 0.01}, .steps = 7, .targets = 1};
    const AttackResult r = fab(watched.model(near.model()), near.victims, a);
    CHECK(count_fooled(r) == 0);
    CHECK(r.forwards == (2 * 7 + 1) * 5);
    CHECK(r.backwards == 7 * 5);
    CHECK(watched.forwards == r.forwards);
    CHECK(watched.backwards == r.backwards);
  }
  {
    // The same for one image in five, the only one with a gradient: the pass that looks is
    // differentiated for all, and the one has another behind it.
    const Model cornered{.forward = [](const Tensor& x, Gate) {
      const Tensor first = slice(reshape(x, {x.dim(0), 2}), 1, 0, 1);
      const Tensor z = affine(relu(affine(first, 1, -0.5)), 4, -1);
      return Outputs{concat({Tensor::zeros(z.shape()), z}, 1)};
    }};
    Victims v{Tensor::full({5, 1, 1, 2}, 0.4), Tensor::zeros({5}, Dtype::i32), row_numbers(5), {}};
    v.images.data_as<float>()[2 * 3] = 0.6f;
    Watched watched;
    const Fab a{.threat = {.eps = 0.01}, .steps = 7, .targets = 1};
    const Nearest found = fab_nearest(watched.model(cornered), v, a);
    CHECK(found.distance[3] == Approx(0.15).epsilon(0.01));
    CHECK(std::isinf(found.distance[2]));
    CHECK(found.forwards == 8 * 5 + 6);
    CHECK(found.backwards == 7 * 5 + 6);
    CHECK(watched.forwards == found.forwards);
    CHECK(watched.backwards == found.backwards);
  }
}

TEST_CASE("fab: the first start is the image, others are eps / 2 away", "[fab]") {
  const LinearScene far(4, 2, 0.4, 0.6, 3);
  for (Norm norm : {Norm::linf, Norm::l2}) {
    Watched watched;
    fab(watched.model(far.model()), far.victims,
        {.threat = {norm, 0.2}, .steps = 0, .targets = 1, .restarts = 3, .seed = 7});
    REQUIRE(watched.points.size() == 3);
    const auto x = far.victims.images.to_vector<float>();
    CHECK(watched.points[0].to_vector<float>() == x);
    CHECK(watched.points[1].to_vector<float>() != watched.points[2].to_vector<float>());
    for (size_t start : {1u, 2u})
      for (size_t i = 0; i < x.size(); i += LinearScene::kPixels) {
        const auto y = watched.points[start].to_vector<float>();
        std::vector<double> offset;
        for (size_t p = i; p < i + LinearScene::kPixels; ++p) offset.push_back(double{y[p]} - x[p]);
        CHECK(norm_of(offset, norm) == Approx(0.1).epsilon(1e-5));
      }
  }
}

TEST_CASE("fab: targets are the best other classes, in their order", "[fab]") {
  // Boundaries out of reach: the first step takes all the room towards the target's.
  const LinearScene far(3, 5, 0.4, 0.6, 3);
  Watched watched;
  fab(watched.model(far.model()), far.victims,
      {.threat = {.eps = 0.1}, .steps = 1, .targets = 9, .pull = 0, .overshoot = 1});
  REQUIRE(watched.points.size() == 2 * 4);
  const auto z = far.model().forward(far.victims.images, Gate::open).logits.to_vector<float>();
  for (size_t i = 0; i < 3; ++i) {
    std::vector<int> order = {1, 2, 3, 4};
    std::sort(order.begin(), order.end(),
              [&](int a, int b) { return z[5 * i + size_t(a)] > z[5 * i + size_t(b)]; });
    for (size_t r = 0; r < 4; ++r) {
      const auto y = watched.points[2 * r + 1].to_vector<float>();
      for (size_t p = 0; p < LinearScene::kPixels; ++p) {
        const double w = far.weight.data_as<double>()[order[r] * LinearScene::kPixels + int64_t(p)];
        CHECK(y[i * LinearScene::kPixels + p] == (w > 0 ? 1 : 0));
      }
    }
  }
}

TEST_CASE("fab: an image that is misclassified as it is", "[fab]") {
  const LinearScene scene(3, 2, 0.4, 0.6, -0.1);
  const Fab a{.threat = {.eps = 0}, .steps = 5};
  const AttackResult r = fab(scene.model(), scene.victims, a);
  CHECK(r.fooled_at == std::vector<int>(3, 0));
  CHECK(r.adversarial.to_vector<float>() == scene.victims.images.to_vector<float>());
  CHECK(fab_nearest(scene.model(), scene.victims, a).distance == std::vector<double>(3, 0));
  CHECK(r.forwards == 3 + 3);
}

TEST_CASE("fab: every point lies in ball and box, and verdicts are the model's", "[fab]") {
  const RoutedScene scene(32);
  for (Norm norm : {Norm::linf, Norm::l2})
    for (double eps : {0.0, 1e-7, 0.02, 0.5, 1.0})
      for (Goal goal : {Goal::fool, Goal::minimise}) {
        const ThreatModel threat{norm, eps};
        const AttackResult r =
            fab(scene.model(), scene.victims,
                {.threat = threat, .steps = 6, .targets = 2, .restarts = 2, .goal = goal});
        INFO("norm " << int(norm) << ", eps " << eps);
        check_in_ball_and_box(r.adversarial, scene.victims.images, threat);
        check_verdicts(scene.model(), scene.victims, r);
        if (eps == 0) CHECK(count_fooled(r) == 0);
        if (eps == 1) CHECK(count_fooled(r) > 24);
      }
}

TEST_CASE("fab: an image's result is its own", "[fab]") {
  const RoutedScene scene(256);
  const Norm norm = GENERATE(Norm::linf, Norm::l2);
  for (int targets : {2, 0}) {
    const Fab a{.threat = {norm, norm == Norm::linf ? 0.06 : 0.5},
                .steps = 5,
                .targets = targets,
                .restarts = 2,
                .bisections = 3,
                .seed = 5};
    const AttackResult whole = fab(scene.model(), scene.victims, a);
    CHECK(count_fooled(whole) > 20);
    CHECK(count_fooled(whole) < 236);
    check_own_result(scene.victims, whole,
                     [&](const Victims& v) { return fab(scene.model(), v, a); });
  }
}

// Fooled at some radius by the search for it: fooled at that radius by the search for the nearest.
TEST_CASE("fab: distances give accuracy at every eps", "[fab]") {
  const RoutedScene scene(64);
  Fab a{.steps = 10, .targets = 4, .bisections = 8, .goal = Goal::minimise};
  const Nearest found = fab_nearest(scene.model(), scene.victims, a);
  const auto points = found.points.to_vector<float>(), x = scene.victims.images.to_vector<float>();
  const auto predicted =
      argmax(scene.model().forward(found.points, Gate::open).logits, 1).to_vector<int32_t>();
  a.goal = Goal::fool;
  for (double eps : {0.01, 0.03, 0.06}) {
    a.threat.eps = eps;
    const AttackResult r = fab(scene.model(), scene.victims, a);
    int64_t within = 0;
    for (double d : found.distance) within += d <= eps;
    CHECK(count_fooled(r) > 0);
    CHECK(std::abs(count_fooled(r) - within) <= 3);
  }
  const size_t pixels = x.size() / 64;
  for (size_t i = 0; i < 64; ++i) {
    double largest = 0;
    for (size_t p = i * pixels; p < (i + 1) * pixels; ++p)
      largest = std::max(largest, std::abs(double{points[p]} - x[p]));
    const bool is_found = found.found_at[i] >= 0;
    CHECK(is_found == (predicted[i] != scene.victims.labels.data_as<int32_t>()[i]));
    CHECK(found.distance[i] == (is_found ? largest : std::numeric_limits<double>::infinity()));
  }
}

TEST_CASE("fab: as one of the attacks, with all its constants", "[fab]") {
  const RoutedScene scene(8);
  const Fab a{.threat = {.eps = 0.03}, .steps = 3, .targets = 1};
  const AttackResult direct = fab(scene.model(), scene.victims, a),
                     any = run(scene.model(), scene.victims, Attack{a});
  CHECK(any.fooled_at == direct.fooled_at);
  CHECK(any.adversarial.to_vector<float>() == direct.adversarial.to_vector<float>());
  CHECK(constants_of(Fab{}).dump() ==
        R"({"steps":100,"targets":9,"restarts":1,"first start":"the image",)"
        R"("other starts":"eps / 2 from the image","alpha max":0.1,"eta":1.05,"beta":0.9,)"
        R"("bisections":0,"goal":"a point within eps","gate":"through","seed":0})");
  CHECK(constants_of(Fab{.threat = {Norm::l2}})["flat gradient"] == 1e-8);
  CHECK(constants_of(Fab{.targets = 0})["targets"] == "none: the nearest of all boundaries");
}

TEST_CASE("fab: says what must hold", "[fab]") {
  const LinearScene scene(1, 2, 0.4, 0.6, 0.1);
  CHECK_THROWS_WITH(fab(scene.model(), scene.victims, {.steps = -1}),
                    Catch::Contains("steps, targets, bisections and eps must be >= 0"));
  CHECK_THROWS_WITH(fab(scene.model(), scene.victims, {.restarts = 0}),
                    Catch::Contains("restarts >= 1"));
  CHECK_THROWS_WITH(fab(scene.model(), scene.victims, {.retreat = 2}),
                    "fab: retreat must be in [0, 1], got 2");
  CHECK_THROWS_WITH(fab(scene.model(), scene.victims, {.pull = 2}),
                    Catch::Contains("pull must be in [0, 1]"));
  const LinearScene one_class(1, 1, 0.4, 0.6, 0.1);
  CHECK_THROWS_WITH(fab(one_class.model(), one_class.victims, {}), Catch::Contains("two classes"));
}

}  // namespace moat::tests
