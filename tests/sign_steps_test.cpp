#include <algorithm>
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "attacks/protocol_run.h"
#include "engine/ops/loss.h"
#include "engine/ops/reduce.h"
#include "engine/ops/shape.h"
#include "engine/tape.h"
#include "tests/attack_fixture.h"
#include "tests/models_fixture.h"
#include "tests/noise_set.h"
#include "train/evaluate.h"
#include "train/training_attack.h"

// The attack of the V-MoE study (Puigcerver et al. 2022): steps of eps / T along the sign of the
// gradient, from the image, of which the last one is judged.

namespace moat::tests {

using namespace engine;
using namespace attacks;
using attacks::Gate;

namespace {

models::ClassifierSettings v_moe() {
  models::ClassifierSettings s = small_family("v-moe");
  s.transformer.moe.importance = 3;
  return s;
}

// The study's loop in plain numbers, on a model and its losses as they are; pixels stay in [0, 1].
std::vector<float> by_hand(const models::Classifier& model, const Victims& v, double eps, int steps,
                           double auxiliary) {
  const auto step = static_cast<float>(eps / steps);
  std::vector<float> x = v.images.to_vector<float>();
  for (int t = 0; t < steps; ++t) {
    Tape tape;
    const Tensor at = tape.watch(Tensor::from(x, v.images.shape()));
    Tensor loss = cross_entropy(model.forward(at, Mode::eval).logits, v.labels);
    if (auxiliary > 0) loss = add(loss, scale(model.auxiliary_losses(at), auxiliary));
    const auto d = tape.gradients(loss, Tensor::full(loss.shape(), 1)).of(at).to_vector<float>();
    for (size_t i = 0; i < x.size(); ++i) {
      const float sign = d[i] > 0 ? 1.F : d[i] < 0 ? -1.F : 0.F;
      x[i] = std::clamp(x[i] + step * sign, 0.F, 1.F);
    }
  }
  return x;
}

}  // namespace

// The test vector of the release: the loss is the square of the distance from y, here as an
// auxiliary one, of a classifier that is sure of nothing.
TEST_CASE("sign steps: the vector of the release", "[attacks][sign-steps]") {
  const Tensor x = Tensor::from(std::vector<float>{.1F, .2F, 0, 0, .1F, .3F}, {2, 1, 3, 1}),
               y = Tensor::from(std::vector<float>{.2F, 0, 0, 0, .1F, .3F}, {2, 1, 3, 1});
  const Model model{.forward =
                        [](const Tensor& images, Gate) {
                          return Outputs{Tensor::zeros({images.dim(0), 2})};
                        },
                    .auxiliary =
                        [&](const Tensor& images) {
                          return sum(reshape(square(sub(images, y)), {2, 3}), 1);
                        }};
  const Victims v = victims_of(x, Tensor::zeros({2}, Dtype::i32));
  const std::vector<float> expected{0, .3F, 0, 0, .1F, .3F};
  for (int steps : {1, 40}) {
    const auto found =
        pgd(model, v, sign_steps({.eps = 0.1}, 1, steps)).adversarial.to_vector<float>();
    for (size_t i = 0; i < 6; ++i) CHECK(found[i] == Approx(expected[i]).margin(1e-6));
  }
  CHECK(pgd(model, v, sign_steps({.eps = 0.1}, 0)).adversarial.to_vector<float>() ==
        x.to_vector<float>());
}

TEST_CASE("sign steps: the study's loop on a v-moe, with and without its auxiliary losses",
          "[attacks][sign-steps]") {
  const models::Classifier model(v_moe(), 1);
  const Model seen = train::attack_model(model);
  const Tensor x = random_images(6, model.settings());
  const Victims v = victims_of(x, argmax(seen.forward(x, Gate::open).logits, 1));
  std::vector<std::vector<float>> points;
  for (double auxiliary : {0.0, 1.0}) {
    const Pgd a = sign_steps({.eps = 0.02}, auxiliary, 5);
    const AttackResult found = run(seen, v, a);
    points.push_back(found.adversarial.to_vector<float>());
    const std::vector<float> expected = by_hand(model, v, 0.02, 5, auxiliary);
    // One rounding of a step of 0.004 apart at each of them.
    for (size_t i = 0; i < expected.size(); ++i)
      CHECK(points.back()[i] == Approx(expected[i]).margin(5e-7));
    // The last point alone is judged: no image leaves, and one look comes after the steps.
    const int64_t per_step = auxiliary > 0 ? 2 : 1;
    CHECK(found.forwards == 6 * (5 * per_step + 1));
    CHECK(found.backwards == 6 * 5 * per_step);
    const auto predicted =
        argmax(model.forward(found.adversarial, Mode::eval).logits, 1).to_vector<int32_t>();
    for (size_t i = 0; i < 6; ++i)
      CHECK(found.fooled_at[i] == (predicted[i] == v.labels.data_as<int32_t>()[i] ? -1 : 5));
    const std::vector<int32_t> one{4};
    const auto alone = run(seen, v.rows(one), a).adversarial.to_vector<float>();
    CHECK(std::equal(alone.begin(), alone.end(), points.back().begin() + 4 * std::ssize(alone)));
  }
  CHECK(points[0] != points[1]);
}

// Fooled on the way and right at the end: the study counts it as right.
TEST_CASE("sign steps: the last point is judged", "[attacks][sign-steps]") {
  // One pixel: class 1 between 0.15 and 0.35, and a loss that rises with the pixel.
  const Model band{.forward = [](const Tensor& x, Gate) {
    const Tensor p = reshape(x, {x.dim(0), 1});
    const Tensor inside = affine(abs(affine(p, 1, -0.25)), -1, 0.1);
    const Tensor rise = sub(p, p.detached());  // 0, with the gradient that is climbed
    return Outputs{concat({scale(rise, -1), add(inside.detached(), rise)}, 1)};
  }};
  const Victims v = victims_of(Tensor::full({1, 1, 1, 1}, 0.05), Tensor::zeros({1}, Dtype::i32));
  Pgd a = sign_steps({.eps = 0.4}, 0);
  CHECK(run(band, v, a).fooled_at == std::vector<int>{-1});
  a.keep = Keep::worst;
  CHECK(run(band, v, a).fooled_at[0] > 0);
  CHECK(run(band, v, sign_steps({.eps = 0.2}, 0)).fooled_at == std::vector<int>{40});
}

TEST_CASE("sign steps: the protocol sign-40@1", "[attacks][sign-steps][protocol]") {
  CHECK(constants_of(Attack{sign_steps({.eps = 0.08}, 1)}).dump() ==
        R"({"attack":"pgd","norm":"linf","eps":0.08,"steps":40,"step":0.002,"restarts":1,)"
        R"("gate":"through","loss":"cross-entropy","path":"own","auxiliary":1.0,)"
        R"("start":"center","momentum":0.0,"keep":"the last point","seed":0})");
  const auto of = [](const models::ClassifierSettings& s) {
    const models::Classifier model(s, 1);
    std::vector<std::string> said;
    for (const NamedAttack& a :
         find_protocol("sign-40@1", {.eps = 0.08}, 0, train::attack_model(model)).attacks) {
      const Pgd& settings = std::get<Pgd>(a.attack);
      CHECK(settings.steps == 40);
      CHECK(settings.step == Approx(0.002));
      CHECK(a.against == Against::correct);
      said.push_back(
          text(a.name, "/", name_of(settings.objective.gate), "/", settings.objective.auxiliary));
    }
    return said;
  };
  using Said = std::vector<std::string>;
  CHECK(of(tiny_dense()) == Said{"sign-40/through/0"});
  CHECK(of(tiny_moe(2)) == Said{"sign-40 through/through/0", "sign-40 blocked/blocked/0"});
  models::ClassifierSettings s = v_moe();
  CHECK(of(s) == Said{"sign-40 through/through/0", "sign-40 blocked/blocked/0",
                      "sign-40 auxiliary through/through/1",
                      "sign-40 auxiliary blocked/blocked/1"});
  s.transformer.moe.importance = 0;
  CHECK(of(s).size() == 2);
}

// Those of the auxiliary losses as well: an evaluation hears a stop before each.
TEST_CASE("sign steps: every pass of the protocol is heard of", "[attacks][sign-steps]") {
  models::Classifier model(v_moe(), 1);
  data::ImageSet set = noise_set(model.settings(), 3, 4, 100);
  set.labels =
      argmax(model.forward(data::batch_of(set).images, Mode::eval).logits, 1).to_vector<int32_t>();
  const Protocol protocol =
      find_protocol("sign-40@1", {.eps = 0.01}, 0, train::attack_model(model));
  int asked = 0;
  train::evaluate(model, set, protocol, {.stop_requested = [&] { return ++asked < 0; }});
  // Before each pass and after each stage: clean and verdict, two attacks of 40 steps and a look,
  // two whose steps are two passes.
  CHECK(asked == 2 * (1 + 1) + 2 * (41 + 1) + 2 * (81 + 1));
}

}  // namespace moat::tests
