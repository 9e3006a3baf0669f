#include "attacks/apgd.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <nlohmann/json.hpp>

#include "attacks/attack.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/linalg.h"
#include "engine/ops/reduce.h"
#include "engine/ops/shape.h"
#include "tests/attack_fixture.h"
#include "tests/models_fixture.h"
#include "train/objective.h"

namespace moat::tests {

using namespace engine;
using namespace attacks;
using attacks::Gate;

namespace {

Tensor uniform_images(int64_t n, int64_t pixels, double low, double high) {
  return random_uniform({n, pixels, 1, 1}, row_numbers(n), {.seed = 3}, low, high);
}

Tensor flat(const Tensor& images) { return reshape(images, {images.dim(0), -1}); }

// logits = weight · pixels + bias.
Model linear_model(const Tensor& weight, const Tensor& bias) {
  return {.forward = [=](const Tensor& images, Gate) {
    return Outputs{linear(flat(images), weight, bias)};
  }};
}

Tensor random_weight(int64_t classes, int64_t pixels) {
  return random_uniform({classes, pixels}, row_numbers(classes), {.seed = 2}, -1, 1);
}

// How many images lie outside, in float64.
int64_t count_outside(const Tensor& adversarial, const Tensor& images, const ThreatModel& threat) {
  const auto x = values(adversarial), c = values(images);
  const auto n = static_cast<size_t>(images.dim(0)), pixels = x.size() / n;
  int64_t outside = 0;
  for (size_t i = 0; i < n; ++i) {
    double largest = 0, square = 0;
    bool in_box = true;
    for (size_t j = i * pixels; j < (i + 1) * pixels; ++j) {
      const double apart = std::abs(double(x[j]) - double(c[j]));
      largest = std::max(largest, apart);
      square += apart * apart;
      in_box = in_box && x[j] >= 0 && x[j] <= 1;
    }
    const bool in_ball = threat.norm == Norm::linf ? largest <= threat.eps
                                                   : std::sqrt(square) <= threat.eps * (1 + 1e-6);
    outside += !in_box || !in_ball;
  }
  return outside;
}

// A network, with images labelled as it sees them.
struct Scene {
  models::Classifier classifier;
  Model model;
  Victims victims;

  Scene(const models::ClassifierSettings& settings, int64_t n)
      : classifier(settings, 3), model((stir(classifier), train::attack_model(classifier))) {
    const Tensor images = random_images(n, settings);
    const Tensor average = mean(classifier.forward(images, Mode::eval).logits, 0);
    for (const NamedTensor& t : state_of(classifier))  // no class is everyone's favourite
      if (t.name == "fc.bias") t.value->copy_from(sub(*t.value, average));
    victims = victims_of(images, argmax(model.forward(images, Gate::open).logits, 1));
  }
};

}  // namespace

TEST_CASE("apgd: starts on the surface of the ball", "[apgd]") {
  const Tensor weight = random_weight(2, 40), bias = Tensor::from<float>({40, 0}, {2});
  const Tensor images = uniform_images(20, 40, 0.45, 0.55);
  const Victims v = victims_of(images, Tensor::zeros({20}, Dtype::i32));
  for (const Norm norm : {Norm::linf, Norm::l2}) {
    const double eps = 0.25;
    std::vector<Tensor> starts;
    for (uint64_t seed : {0, 1}) {
      std::vector<Tensor> seen;
      const Model model{.forward = [&](const Tensor& x, Gate) {
        seen.push_back(x.detached().clone());
        return Outputs{linear(flat(x), weight, bias)};
      }};
      apgd(model, v, {.threat = {norm, eps}, .steps = 1, .restarts = 2, .seed = seed});
      REQUIRE(seen.size() == 4);
      starts.insert(starts.end(), {seen[0], seen[2]});
    }
    for (const Tensor& start : starts) {
      const auto x = values(start), c = values(images);
      for (size_t i = 0; i < 20; ++i) {
        double largest = 0, square = 0, sum = 0;
        for (size_t j = i * 40; j < (i + 1) * 40; ++j) {
          const double offset = double(x[j]) - double(c[j]);
          largest = std::max(largest, std::abs(offset));
          square += offset * offset;
          sum += std::abs(offset);
        }
        CHECK((norm == Norm::linf ? largest : std::sqrt(square)) == Approx(eps).epsilon(1e-6));
        // Uniform: E|t| = max / 2; on the sphere: of a normal, E|t| / sqrt(E t²) = 0.8.
        CHECK(sum / 40 ==
              Approx(norm == Norm::linf ? eps / 2 : 0.8 * eps / std::sqrt(40)).epsilon(0.3));
      }
    }
    for (size_t a = 0; a < starts.size(); ++a)  // seeds and restarts all differ
      for (size_t b = 0; b < a; ++b) CHECK(values(starts[a]) != values(starts[b]));
  }
}

// max over the ball of (w_1 - w_0) · x has a closed form where the box is not met.
TEST_CASE("apgd: the optimum of a linear model", "[apgd]") {
  constexpr int64_t kPixels = 48;
  const Tensor weight = random_weight(2, kPixels), bias = Tensor::from<float>({40, 0}, {2});
  const Tensor images = uniform_images(16, kPixels, 0.3, 0.7);
  const Victims v = victims_of(images, Tensor::zeros({16}, Dtype::i32));
  const float* w = weight.data_as<float>();
  double sum_abs = 0, square = 0;
  for (int64_t j = 0; j < kPixels; ++j) {
    const double slope = double(w[kPixels + j]) - double(w[j]);
    sum_abs += std::abs(slope);
    square += slope * slope;
  }
  for (const Norm norm : {Norm::linf, Norm::l2})
    for (const Loss loss : {Loss::cross_entropy, Loss::margin, Loss::dlr}) {
      const double eps = norm == Norm::linf ? 0.1 : 0.28;
      const AttackResult r =
          apgd(linear_model(weight, bias), v, {.threat = {norm, eps}, .objective = {.loss = loss}});
      CHECK(count_outside(r.adversarial, images, {norm, eps}) == 0);
      const double best = norm == Norm::linf ? eps * sum_abs : eps * std::sqrt(square);
      for (int64_t i = 0; i < 16; ++i) {
        double gain = 0;
        for (int64_t j = 0; j < kPixels; ++j)
          gain += (double(w[kPixels + j]) - double(w[j])) *
                  (double(r.adversarial.data_as<float>()[i * kPixels + j]) -
                   double(images.data_as<float>()[i * kPixels + j]));
        // The attack cannot see a gain below the resolution of a float32 logit of 40.
        CHECK(gain == Approx(best).epsilon(1e-6).margin(40 * 0x1p-23));
      }
    }
}

TEST_CASE("apgd: every point lies in ball and box to the last bit", "[apgd]") {
  const Scene scene(tiny_dense(), 24);
  for (const Norm norm : {Norm::linf, Norm::l2})
    for (double eps : {0.0, 1e-9, 1e-4, 8.0 / 255, 0.5, 1.0})
      for (const Loss loss : {Loss::cross_entropy, Loss::dlr, Loss::dlr_targeted}) {
        const ThreatModel threat{norm, eps};
        const AttackResult r = apgd(scene.model, scene.victims,
                                    {.threat = threat,
                                     .steps = 8,
                                     .objective = {.loss = loss},
                                     .targets = loss == Loss::dlr_targeted ? 2 : 0});
        CHECK(count_outside(r.adversarial, scene.victims.images, threat) == 0);
        if (eps == 0) CHECK(values(r.adversarial) == values(scene.victims.images));
        if (eps == 1) CHECK(count_fooled(r) > 20);
      }
}

// Fooled images leave the batch, so these runs compact it at different times.
TEST_CASE("apgd: an image's result is its own", "[apgd]") {
  constexpr int32_t kImages = 256;
  const bool routed = GENERATE(true, false);
  const Scene scene(routed ? tiny_moe(2) : tiny_dense(), kImages);
  const double eps = routed ? 0.035 : 0.01;
  std::vector<Apgd> attacks = {
      {.threat = {.eps = eps}, .steps = 10, .restarts = 2},
      {.threat = {Norm::l2, 4 * eps}, .steps = 10, .objective = {.loss = Loss::dlr}},
      {.threat = {.eps = eps / 2},
       .steps = 6,
       .objective = {.loss = Loss::dlr_targeted},
       .targets = 9}};
  for (const Apgd& a : attacks) {
    const AttackResult whole = apgd(scene.model, scene.victims, a);
    CHECK(count_fooled(whole) > 10);
    CHECK(count_fooled(whole) < kImages - 10);
    const auto check = [&](const std::vector<int32_t>& rows) {
      const AttackResult part = apgd(scene.model, scene.victims.rows(rows), a);
      CHECK(values(gather_rows(whole.adversarial, index_of(rows))) == values(part.adversarial));
      for (size_t i = 0; i < rows.size(); ++i)
        if (part.fooled_at[i] != whole.fooled_at[size_t(rows[i])])
          FAIL_CHECK("image " << rows[i] << " is fooled at " << part.fooled_at[i]);
    };
    std::vector<int32_t> permuted;
    for (int32_t i = 0; i < kImages; ++i) permuted.push_back((i * 77 + 13) % kImages);
    check(permuted);
    for (int32_t from : {0, 100, 249}) {  // batches of 7 and of 1
      std::vector<int32_t> seven;
      for (int32_t i = from; i < from + 7; ++i) seven.push_back(i);
      check(seven);
      check({from});
    }
  }
}

TEST_CASE("apgd: forward and backward passes are counted", "[apgd]") {
  const Tensor weight = random_weight(5, 6), bias = Tensor::from<float>({40, 0, 0, 0, 0}, {5});
  const Victims v = victims_of(uniform_images(3, 6, 0.4, 0.6), Tensor::zeros({3}, Dtype::i32));
  const Model safe = linear_model(weight, bias);
  const AttackResult one = apgd(safe, v, {.steps = 10, .restarts = 2});
  CHECK(one.forwards == 2 * 11 * 3);
  CHECK(one.backwards == 2 * 10 * 3);
  // Of nine targets there are four, and the clean logits are looked at once.
  const AttackResult aimed =
      apgd(safe, v, {.steps = 10, .objective = {.loss = Loss::dlr_targeted}, .targets = 9});
  CHECK(aimed.forwards == 4 * 11 * 3 + 3);
  CHECK(aimed.backwards == 4 * 10 * 3);
  // Looks are numbered through the runs; what is misclassified anyway is fooled by the first.
  const Model wrong = linear_model(weight, scale(bias, -1));
  CHECK(apgd(wrong, v, {.steps = 10}).fooled_at == std::vector<int>(3, 0));
}

// Target 3 alone can be reached: its logit ranks second, third or fourth among the clean ones.
TEST_CASE("apgd: targets are tried by falling clean logit", "[apgd]") {
  const Tensor weight = Tensor::zeros({5, 4});
  float* w = weight.data_as<float>();
  for (int j = 0; j < 4; ++j) w[3 * 4 + j] = 1;
  const Victims v = victims_of(uniform_images(2, 4, 0.5, 0.5), Tensor::zeros({2}, Dtype::i32));
  // Clean logits 3, others, and 2 + bias of class 3; 4 · 0.3 are to be had.
  const auto fooled_in_run = [&](std::vector<float> bias, int targets) {
    const AttackResult r = apgd(linear_model(weight, Tensor::from<float>(bias, {5})), v,
                                {.threat = {.eps = 0.3},
                                 .steps = 10,
                                 .objective = {.loss = Loss::dlr_targeted},
                                 .targets = targets});
    CHECK(r.fooled_at[0] == r.fooled_at[1]);
    return r.fooled_at[0] < 0 ? -1 : r.fooled_at[0] / 11;
  };
  CHECK(fooled_in_run({3, 0, 0, 0, 0}, 9) == 0);
  CHECK(fooled_in_run({3, 2.5, 0, 0, 0}, 9) == 1);
  CHECK(fooled_in_run({3, 2.5, 0, 0, 2.25}, 9) == 2);
  CHECK(fooled_in_run({3, 2.5, 2.125, 0, 2.25}, 9) == 3);
  CHECK(fooled_in_run({3, 2.5, 2.125, 0, 2.25}, 3) == -1);
  CHECK(fooled_in_run({3, 2.5, 2.5, 0, 2.5}, 9) == 3);  // equal logits do not lose a class
}

// Of a model that multiplies its logits by 1e4 the cross-entropy is flat, in float64 as well.
TEST_CASE("apgd: DLR finds what PGD misses on large logits", "[apgd]") {
  const Tensor weight = scale(random_weight(4, 48), 1e4);
  const Model model = linear_model(weight, Tensor::zeros({4}));
  const Tensor images = uniform_images(64, 48, 0.2, 0.8);
  const Victims v = victims_of(images, argmax(model.forward(images, Gate::open).logits, 1));
  const ThreatModel threat{.eps = 0.05};
  const auto fooled = [&](const Attack& attack) { return count_fooled(run(model, v, attack)); };
  const int64_t by_pgd = fooled(Pgd{.threat = threat, .steps = 100, .step = threat.eps / 4}),
                by_ce = fooled(Apgd{.threat = threat}),
                by_dlr = fooled(Apgd{.threat = threat, .objective = {.loss = Loss::dlr}}),
                by_targets = fooled(Apgd{
                    .threat = threat, .objective = {.loss = Loss::dlr_targeted}, .targets = 9});
  // Who can be fooled at all: a linear model's answer for each wrong class.
  int64_t possible = 0;
  const float *w = weight.data_as<float>(), *x = images.data_as<float>();
  for (int64_t i = 0; i < 64; ++i) {
    const int32_t y = v.labels.data_as<int32_t>()[i];
    double best = -1;
    for (int32_t t = 0; t < 4; ++t) {
      double reach = t == y ? -1 : 0;
      for (int64_t j = 0; j < 48; ++j) {
        const double slope = double(w[t * 48 + j]) - double(w[y * 48 + j]);
        reach += slope * x[i * 48 + j] + threat.eps * std::abs(slope);
      }
      best = std::max(best, reach);
    }
    possible += best > 0;
  }
  CHECK(possible > 20);
  CHECK(by_targets == possible);
  CHECK(by_dlr >= by_ce);
  CHECK(by_dlr > possible - 5);
  CHECK(by_ce < possible / 2);
  CHECK(by_pgd < possible / 2);
}

TEST_CASE("apgd: with few classes DLR is the margin", "[apgd]") {
  for (int64_t classes : {2, 3}) {
    const Model model =
        linear_model(scale(random_weight(classes, 48), 1e4), Tensor::zeros({classes}));
    const Tensor images = uniform_images(32, 48, 0.2, 0.8);
    const Victims v = victims_of(images, argmax(model.forward(images, Gate::open).logits, 1));
    const auto attacked = [&](Loss loss, int targets) {
      return apgd(model, v,
                  {.threat = {.eps = 0.05}, .objective = {.loss = loss}, .targets = targets});
    };
    const AttackResult by_margin = attacked(Loss::margin, 0), by_dlr = attacked(Loss::dlr, 0),
                       by_targets = attacked(Loss::dlr_targeted, 9);
    CHECK(count_fooled(by_margin) > 3);
    CHECK(count_fooled(by_margin) < 32);
    if (classes == 2) CHECK(values(by_dlr.adversarial) == values(by_margin.adversarial));
    CHECK(count_fooled(by_targets) >= count_fooled(by_margin));
  }
}

TEST_CASE("apgd: prints every constant", "[apgd]") {
  const nlohmann::ordered_json c =
      constants_of(Attack(Apgd{.threat = {.eps = 0.03},
                               .objective = {.loss = Loss::dlr_targeted},
                               .targets = 9,
                               .seed = 4}));
  CHECK(c.dump() ==
        R"json({"attack":"apgd","norm":"linf","eps":0.03,)json"
        R"json("steps":100,"first step":0.06,"checkpoints":[22,41,57,70,80,87,93,99],)json"
        R"json("rho":0.75,"momentum":0.75,"momentum of the first step":1,"restarts":1,)json"
        R"json("start":"uniform, scaled to the ball's surface, in the box",)json"
        R"json("keep":"worst of all iterates and the start","targets":9,)json"
        R"json("target classes":"by falling clean logit, from the largest of a wrong class",)json"
        R"json("gate":"through","loss":"dlr-targeted (below 4 classes z_t - z_y)",)json"
        R"json("path":"own","seed":4})json");
  const nlohmann::ordered_json l2 = constants_of(
      Apgd{.threat = {.norm = Norm::l2, .eps = 0.5}, .objective = {.loss = Loss::dlr}});
  CHECK(l2["first step"] == 1);
  CHECK(l2["start"] == "normal, scaled to the sphere, in the box");
  CHECK(l2["loss"] == "dlr (below 3 classes the margin)");
  CHECK_FALSE(l2.contains("targets"));
}

TEST_CASE("apgd: says what must hold", "[apgd]") {
  const Model model = linear_model(random_weight(4, 6), Tensor::zeros({4}));
  const Victims v = victims_of(uniform_images(2, 6, 0, 1), Tensor::zeros({2}, Dtype::i32));
  CHECK_THROWS_WITH(apgd(model, v, {.steps = 0}),
                    Catch::Contains("apgd: steps and restarts must be >= 1, targets and eps >= 0, "
                                    "got 0, 1, 0 and"));
  CHECK_THROWS_WITH(apgd(model, v, {.targets = 9}),
                    "apgd: with targets the loss must be dlr-targeted (below 4 classes z_t - z_y), "
                    "got cross-entropy");
  CHECK_THROWS_WITH(apgd(model, v, {.objective = {.loss = Loss::dlr_targeted}}),
                    "targeted_dlr: targets must be int32 [2], got nothing");
  // A target of the caller's own.
  Victims aimed = v;
  aimed.targets = Tensor::from<int32_t>({2, 1}, {2});
  CHECK(apgd(model, aimed, {.steps = 2, .objective = {.loss = Loss::dlr_targeted}}).forwards > 0);
}

}  // namespace moat::tests
