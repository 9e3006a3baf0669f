#include <catch2/catch.hpp>
#include <cmath>

#include "attacks/pgd.h"
#include "attacks/protocol_run.h"
#include "data/digits.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/linalg.h"
#include "engine/ops/loss.h"
#include "engine/ops/reduce.h"
#include "engine/ops/shape.h"
#include "tests/attack_fixture.h"
#include "tests/models_fixture.h"
#include "train/objective.h"

namespace moat::tests {

using namespace engine;
using namespace attacks;
using attacks::Gate;
using models::Classifier;

namespace {

// logits = weight · pixels + bias, two classes.
struct LinearModel {
  Tensor weight, bias;
  Model model() const {
    return {.forward = [this](const Tensor& images, Gate) {
      return Outputs{linear(reshape(images, {images.dim(0), -1}), weight, bias), {}};
    }};
  }
  // z_1 - z_0 in float64 at image i.
  double margin(const Tensor& images, int64_t i) const {
    const int64_t d = weight.dim(1);
    const float* x = images.data_as<float>() + i * d;
    const float *w = weight.data_as<float>(), *b = bias.data_as<float>();
    double sum = double(b[1]) - double(b[0]);
    for (int64_t j = 0; j < d; ++j) sum += (double(w[d + j]) - double(w[j])) * double(x[j]);
    return sum;
  }
};

constexpr int64_t kPixels = 4 * 4 * 3;

// `certainty` is how far the bias favours class 0.
LinearModel linear_model(double certainty) {
  return {random_uniform({2, kPixels}, row_numbers(2), {.seed = 2}, -1, 1),
          Tensor::from(std::vector<float>{static_cast<float>(certainty), 0}, {2})};
}

Tensor zeros_of(int64_t n) { return Tensor::zeros({n}, Dtype::i32); }

Tensor uniform_images(int64_t n, double low, double high) {
  return random_uniform({n, 4, 4, 3}, row_numbers(n), {.seed = 3}, low, high);
}

void check_in_ball(const Tensor& adversarial, const Tensor& images, const ThreatModel& threat) {
  const auto x = values(adversarial), c = values(images);
  const auto eps = static_cast<float>(threat.eps);
  const size_t pixels = x.size() / static_cast<size_t>(images.dim(0));
  double squares = 0;
  bool inside = true;
  for (size_t i = 0; i < x.size(); ++i) {
    if (i % pixels == 0) squares = 0;
    const double d = double(x[i]) - double(c[i]);
    squares += d * d;
    inside = inside && x[i] >= 0 && x[i] <= 1;
    inside = inside && (threat.norm == Norm::linf ? std::abs(x[i] - c[i]) <= eps
                                                  : std::sqrt(squares) <= threat.eps * (1 + 1e-6));
  }
  CHECK(inside);
}

TEST_CASE("loss: of images mixed in pairs", "[attacks]") {
  const Tensor logits = random_normal({6, 3}, row_numbers(6), {.seed = 5}, 0, 2),
               one = random_labels(6, 3), two = random_labels(6, 3, 1);
  Victims v = victims_of(uniform_images(6, 0, 1), one);
  v.other_labels = two;
  v.weight = random_uniform({6}, row_numbers(6), {.seed = 6}, 0.5, 1);
  const auto of = [&](const Victims& victims, const Tensor& z) {
    return loss_of(Loss::cross_entropy, z, victims).to_vector<float>();
  };
  const auto first = of(victims_of(v.images, one), logits),
             second = of(victims_of(v.images, two), logits), mixed = of(v, logits);
  for (size_t i = 0; i < 6; ++i) {
    const double w = v.weight.data_as<float>()[i];
    CHECK(mixed[i] == Approx(w * double(first[i]) + (1 - w) * double(second[i])));
  }
  const std::vector<int32_t> rows{1, 4};
  CHECK(of(v.rows(rows), gather_rows(logits, index_of(rows))) ==
        std::vector<float>{mixed[1], mixed[4]});
}

// A classifier on random images, labelled as it sees them, so that every attack starts from
// "right".
struct Scene {
  Classifier model;
  Victims victims;
  Scene(const models::ClassifierSettings& settings, int64_t n, uint64_t seed = 3)
      : model(settings, seed) {
    stir(model);
    const Tensor images = random_images(n, settings);
    if (model.is_routed())
      balance_router(model, images, std::vector<double>(size_t(settings.experts), 0), Mode::eval);
    balance_classes(model, images);
    victims = victims_of(images, argmax(model.forward(images, Mode::eval).logits, 1));
  }
};

// Its logits are close together: an attack of this size fools some of the images, not all.
constexpr double kHalfway = 0.05;

Pgd some_pgd(double eps = kHalfway) {
  return {.threat = {.eps = eps}, .steps = 6, .step = eps / 4, .seed = 11};
}

Victims rows_of(const Victims& v, const std::vector<int32_t>& rows) { return v.rows(rows); }

void check_same_bits(const AttackResult& whole, const AttackResult& part,
                     const std::vector<int32_t>& rows) {
  CHECK(values(gather_rows(whole.adversarial, index_of(rows))) == values(part.adversarial));
  if (whole.fooled_at.empty()) return;
  std::vector<int> expected;
  for (int32_t row : rows) expected.push_back(whole.fooled_at[size_t(row)]);
  CHECK(expected == part.fooled_at);
}

}  // namespace

// On a linear two-class model the worst point of ball ∩ box has a closed form: every pixel goes as
// far as it may along the sign of the weight difference.
TEST_CASE("attacks: FGSM and PGD find the optimum of a linear model (L-infinity)", "[attacks]") {
  const double eps = 0.05;
  const LinearModel net = linear_model(40);  // class 0 stays the prediction: no early end
  const Tensor images = uniform_images(16, 0, 1);
  const Victims v = victims_of(images, zeros_of(16));
  Tensor optimum = images.clone();
  for (int64_t i = 0; i < optimum.size(); ++i) {
    const int64_t j = i % kPixels;
    const float *w = net.weight.data_as<float>(), e = static_cast<float>(eps);
    float& x = optimum.data_as<float>()[i];
    x = std::clamp(w[kPixels + j] > w[j] ? x + e : x - e, 0.f, 1.f);
  }
  Pgd one = fgsm({.eps = eps});
  Pgd many{.threat = {.eps = eps}, .steps = 50, .step = eps / 4};
  for (Pgd a : {one, many}) {
    for (Keep keep : {Keep::worst, Keep::last}) {
      a.keep = keep;
      const AttackResult r = pgd(net.model(), v, a);
      for (int64_t i = 0; i < 16; ++i)
        CHECK(net.margin(r.adversarial, i) == Approx(net.margin(optimum, i)).margin(1e-5));
      check_in_ball(r.adversarial, images, a.threat);
    }
    const Tensor logits =
        net.model().forward(pgd(net.model(), v, a).adversarial, Gate::open).logits;
    const auto loss = values(cross_entropy(logits, v.labels));
    for (int64_t i = 0; i < 16; ++i)
      CHECK(loss[size_t(i)] == Approx(std::log1p(std::exp(net.margin(optimum, i)))).margin(1e-5));
  }
}

TEST_CASE("attacks: PGD finds the optimum of a linear model (L2)", "[attacks]") {
  const double eps = 0.2;
  const LinearModel net = linear_model(12);
  const Tensor images = uniform_images(16, 0.3, 0.7);  // the ball lies inside the box
  const Victims v = victims_of(images, zeros_of(16));
  const Tensor slope = sub(net.weight.sliced(0, 1, 2), net.weight.sliced(0, 0, 1));
  const double length = std::sqrt(sum(square(slope)).item());
  for (Start start : {Start::center, Start::uniform, Start::gaussian}) {
    const AttackResult r = pgd(net.model(), v,
                               {.threat = {Norm::l2, eps},
                                .steps = 200,
                                .step = eps / 4,
                                .start = start,
                                .keep = Keep::last});
    check_in_ball(r.adversarial, images, {Norm::l2, eps});
    for (int64_t i = 0; i < 16; ++i)
      CHECK(net.margin(r.adversarial, i) ==
            Approx(net.margin(images, i) + eps * length).margin(1e-4));
  }
}

TEST_CASE("attacks: every point lies in ball and box", "[attacks]") {
  const Scene scene(tiny_moe(2), 24);
  const Model model = train::attack_model(scene.model);
  for (Norm norm : {Norm::linf, Norm::l2})
    for (double eps : {0.0, 8.0 / 255, 0.3})
      for (Start start : {Start::center, Start::uniform, Start::gaussian})
        for (Keep keep : {Keep::last, Keep::worst}) {
          const ThreatModel threat{norm, eps};
          check_in_ball(pgd(model, scene.victims,
                            {.threat = threat,
                             .steps = 3,
                             .step = eps / 2,
                             .start = start,
                             .keep = keep,
                             .momentum = keep == Keep::last ? 0.9 : 0})
                            .adversarial,
                        scene.victims.images, threat);
        }
}

// A model whose gradient points the wrong way: the loss falls along the iterates, and the start is
// the worst point there is.
TEST_CASE("attacks: the start counts, and the worst iterate is kept", "[attacks]") {
  const LinearModel net = linear_model(40);
  const Model lying{.forward = [&](const Tensor& x, Gate gate) {
    const Tensor z = net.model().forward(x, gate).logits;
    return Outputs{sub(scale(z.detached(), 2), z), {}};
  }};
  const Tensor images = uniform_images(8, 0.2, 0.8);
  const Victims v = victims_of(images, zeros_of(8));
  Pgd a{.threat = {.eps = 0.1}, .steps = 5, .step = 0.02, .start = Start::center};
  const AttackResult worst = pgd(lying, v, a);
  CHECK(values(worst.adversarial) == values(images));
  CHECK(worst.fooled_at == std::vector<int>(8, -1));
  a.keep = Keep::last;
  const AttackResult last = pgd(lying, v, a);
  for (int64_t i = 0; i < 8; ++i)
    CHECK(net.margin(last.adversarial, i) < net.margin(images, i) - 0.1);
}

TEST_CASE("attacks: iterates are counted from the start and through the restarts", "[attacks]") {
  const Tensor images = uniform_images(4, 0.4, 0.6);
  // Misclassified from the start.
  const LinearModel wrong = linear_model(-40);
  const Victims v = victims_of(images, zeros_of(4));
  const AttackResult start =
      pgd(wrong.model(), v, {.threat = {.eps = 0.1}, .start = Start::center});
  CHECK(start.fooled_at == std::vector<int>(4, 0));
  CHECK(values(start.adversarial) == values(images));
  CHECK(start.forwards == 4);
  // Fooled at a known step: the margin grows by step · ‖w‖₁ with each.
  LinearModel net = linear_model(0);
  double gain = 0;
  for (int64_t j = 0; j < kPixels; ++j)
    gain += std::abs(double(net.weight.data_as<float>()[kPixels + j]) -
                     double(net.weight.data_as<float>()[j]));
  const Victims one = victims_of(images.sliced(0, 0, 1).clone(), zeros_of(1));
  net.bias.data_as<float>()[0] = static_cast<float>(net.margin(images, 0) + 2.5 * 0.01 * gain);
  const AttackResult third = pgd(
      net.model(), one, {.threat = {.eps = 0.1}, .steps = 9, .step = 0.01, .start = Start::center});
  CHECK(third.fooled_at == std::vector<int>{3});
  // Never fooled: steps forwards with a gradient and one without, in each of the restarts.
  const LinearModel safe = linear_model(40);
  const AttackResult none =
      pgd(safe.model(), v, {.threat = {.eps = 0.1}, .steps = 3, .restarts = 2});
  CHECK(none.forwards == 2 * 4 * 4);
  CHECK(none.backwards == 2 * 3 * 4);
}

TEST_CASE("attacks: more restarts never fool fewer", "[attacks]") {
  const Scene scene(tiny_moe(2), 64);
  const Model model = train::attack_model(scene.model);
  AttackResult before;
  for (int restarts = 1; restarts <= 4; ++restarts) {
    Pgd a = some_pgd(4 * kHalfway);
    a.steps = 2;
    a.restarts = restarts;
    AttackResult now = pgd(model, scene.victims, a);
    if (restarts == 1) {  // the scene is neither won nor lost
      CHECK(count_fooled(now) > 4);
      CHECK(count_fooled(now) < 60);
    }
    for (size_t i = 0; i < before.fooled_at.size(); ++i)
      if (before.fooled_at[i] >= 0) CHECK(now.fooled_at[i] == before.fooled_at[i]);
    before = std::move(now);
  }
  for (int at : before.fooled_at) CHECK(at < 4 * 3);
}

// Fooled images leave the batch, so these runs compact it at different times.
TEST_CASE("attacks: an image's result is its own", "[attacks]") {
  const bool routed = GENERATE(true, false);
  const Norm norm = GENERATE(Norm::linf, Norm::l2);
  const Scene scene(routed ? tiny_moe(2) : tiny_dense(), 48);
  const Model model = train::attack_model(scene.model);
  Pgd a = some_pgd();
  const double halfway = routed ? kHalfway : kHalfway / 5;
  a.threat = {norm, norm == Norm::l2 ? 4 * halfway : halfway};
  a.step = a.threat.eps / 4;
  a.restarts = 2;
  std::vector<int32_t> backwards, some = {5}, few = {40, 3, 17, 21, 8};
  for (int32_t i = 47; i >= 0; --i) backwards.push_back(i);
  for (double momentum : {0.0, 0.9})
    for (Keep keep : {Keep::worst, Keep::last}) {
      a.momentum = momentum;
      a.keep = keep;
      const AttackResult whole = pgd(model, scene.victims, a);
      if (keep == Keep::worst) {
        CHECK(count_fooled(whole) > 2);
        CHECK(count_fooled(whole) < 46);
      }
      for (const auto& rows : {backwards, some, few})
        check_same_bits(whole, pgd(model, rows_of(scene.victims, rows), a), rows);
    }
}

TEST_CASE("attacks: the seed decides", "[attacks]") {
  const Scene scene(tiny_moe(2), 12);
  const Model model = train::attack_model(scene.model);
  Pgd a = some_pgd();
  a.keep = Keep::last;
  const auto first = values(pgd(model, scene.victims, a).adversarial);
  CHECK(first == values(pgd(model, scene.victims, a).adversarial));
  a.seed = 12;
  CHECK(first != values(pgd(model, scene.victims, a).adversarial));
  a = some_pgd();
  a.keep = Keep::last;
  a.iteration = 1;
  CHECK(first != values(pgd(model, scene.victims, a).adversarial));
}

TEST_CASE("attacks: the KL attack raises the divergence, image by image", "[attacks]") {
  const Scene scene(tiny_moe(2), 32);
  const Model model = train::attack_model(scene.model);
  Victims v = scene.victims;
  Pgd a = some_pgd(8.0 / 255);
  a.start = Start::gaussian;
  a.objective.loss = Loss::kl_divergence;
  a.keep = Keep::last;
  CHECK_THROWS_WITH(pgd(model, v, a), Catch::Contains("clean logits"));
  v.reference = model.forward(v.images, Gate::open).logits;
  const auto divergence = [&](int steps) {
    a.steps = steps;
    const Tensor x = pgd(model, v, a).adversarial;
    return values(kl_divergence(v.reference, model.forward(x, Gate::open).logits));
  };
  const auto start = divergence(0), end = divergence(10);
  for (size_t i = 0; i < start.size(); ++i) CHECK(end[i] > start[i]);
}

TEST_CASE("attacks: a model and its running statistics are left alone", "[attacks]") {
  Scene scene(tiny_moe(2), 16);
  const uint64_t before = fingerprint(scene.model);
  const Model model = train::attack_model(scene.model);
  run_protocol(model, scene.victims, find_protocol("pgd-10@1", {.eps = 0.1}, 0, model));
  CHECK(fingerprint(scene.model) == before);
}

TEST_CASE("protocol: a routed model is attacked through the gate and with it blocked",
          "[attacks][protocol]") {
  const Scene routed(tiny_moe(2), 4), dense(tiny_dense(), 4);
  const Model a = train::attack_model(routed.model), b = train::attack_model(dense.model);
  const ThreatModel threat{.eps = 0.1};
  const Protocol two = find_protocol("pgd-50@1", threat, 5, a);
  REQUIRE(two.attacks.size() == 2);
  CHECK(two.attacks[0].name == "pgd-50 through");
  CHECK(std::get<Pgd>(two.attacks[0].attack).objective.gate == Gate::open);
  CHECK(two.attacks[1].name == "pgd-50 blocked");
  CHECK(std::get<Pgd>(two.attacks[1].attack).objective.gate == Gate::blocked);
  const Protocol one = find_protocol("pgd-50@1", threat, 5, b);
  REQUIRE(one.attacks.size() == 1);
  for (const Protocol& protocol : {two, one})
    for (const NamedAttack& attack : protocol.attacks) {
      const Pgd& s = std::get<Pgd>(attack.attack);
      CHECK(s.steps == 50);
      CHECK(s.step == threat.eps / 4);
      CHECK(s.restarts == 1);
      CHECK(s.start == Start::uniform);
      CHECK(s.objective.loss == Loss::cross_entropy);
      CHECK(s.keep == Keep::worst);
      CHECK(s.momentum == 0);
      CHECK(s.seed == 5);
    }
  CHECK(std::get<Pgd>(find_protocol("fgsm@1", threat, 0, b).attacks[0].attack).steps == 1);
  CHECK_THROWS_AS(find_protocol("pgd-50", threat, 0, b), UsageError);
  CHECK_THROWS_WITH(find_protocol("pgd-50@2", threat, 0, b), Catch::Contains("pgd-50@1"));
}

TEST_CASE("protocol: an image is robust when it resists every attack", "[attacks][protocol]") {
  Scene scene(tiny_moe(2), 64);
  scene.victims.labels.data_as<int32_t>()[3] = (scene.victims.labels.data_as<int32_t>()[3] + 1) % 5;
  const Model model = train::attack_model(scene.model);
  const ThreatModel threat{.eps = kHalfway};
  const Protocol protocol = find_protocol("pgd-10@1", threat, 0, model);
  const ProtocolResult r = run_protocol(model, scene.victims, protocol);
  check_in_ball(r.adversarial, scene.victims.images, threat);
  const auto labels = scene.victims.labels.to_vector<int32_t>();
  int64_t robust = 0;
  for (size_t i = 0; i < labels.size(); ++i) {
    const SampleResult& s = r.samples[i];
    INFO("image " << i);
    if (i == 3) {  // wrong clean: not attacked, not robust
      CHECK_FALSE(s.is_correct(labels[i]));
      CHECK_FALSE(s.is_robust(labels[i]));
      CHECK(s.linf == 0);
      continue;
    }
    CHECK(s.is_correct(labels[i]));
    CHECK(s.is_robust(labels[i]) == (s.resisted[0] && s.resisted[1]));
    CHECK((s.adversarial_prediction == labels[i]) == s.is_robust(labels[i]));
    CHECK((s.margin < 0) == s.is_robust(labels[i]));
    CHECK((s.iteration >= 0) == !s.is_robust(labels[i]));
    CHECK(s.linf <= threat.eps * (1 + 1e-6));
    robust += s.is_robust(labels[i]);
  }
  CHECK(robust > 4);
  CHECK(robust < 60);
  // The same from another batch and in another order.
  std::vector<int32_t> rows = {9, 3, 60, 1};
  const ProtocolResult part = run_protocol(model, scene.victims.rows(rows), protocol);
  CHECK(values(part.adversarial) == values(gather_rows(r.adversarial, index_of(rows))));
  for (size_t i = 0; i < rows.size(); ++i) {
    const SampleResult &a = part.samples[i], &b = r.samples[size_t(rows[i])];
    CHECK(a.fooled_by == b.fooled_by);
    CHECK(a.iteration == b.iteration);
    CHECK(a.margin == b.margin);
    CHECK(a.resisted == b.resisted);
  }
}

}  // namespace moat::tests
