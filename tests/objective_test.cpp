#include "train/objective.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "engine/ops/elementwise.h"
#include "engine/ops/reduce.h"
#include "engine/tape.h"
#include "tests/learner_fixture.h"
#include "train/methods.h"

namespace moat::tests {

using namespace engine;
using namespace train;

namespace {

models::Prediction prediction(const std::vector<float>& scores, int64_t experts,
                              const std::vector<int32_t>& routes) {
  const auto n = static_cast<int64_t>(routes.size());
  return {{}, Tensor::from(scores, {n, experts}), Tensor::from(routes, {n}), {}};
}

}  // namespace

TEST_CASE("objective: the balance loss by hand", "[train]") {
  // Equal scores, routes spread evenly: N · Σ (1/N · 1/N) = 1.
  CHECK(balance_loss(prediction({0, 0, 0, 0, 0, 0, 0, 0}, 4, {0, 1})).item() == Approx(1));
  CHECK(balance_loss(prediction({7, 7, -3, -3}, 2, {0, 1})).item() == Approx(1));
  // All in one place, and sure of it: N.
  CHECK(balance_loss(prediction({40, 0, 40, 0}, 2, {0, 0})).item() == Approx(2));
  // Shares 2/3 and 1/3; probabilities of expert 0: 1/2, 3/4, 1/4.
  const float log3 = std::log(3.f);
  CHECK(balance_loss(prediction({0, 0, log3, 0, 0, log3}, 2, {0, 0, 1})).item() ==
        Approx(2 * (2. / 3 * 0.5 + 1. / 3 * 0.5)));
  CHECK(balance_loss(prediction({log3, 0, log3, 0}, 2, {0, 0})).item() == Approx(2 * 0.75));
}

TEST_CASE("objective: cross-entropy with label smoothing by hand", "[train]") {
  const float log3 = std::log(3.f);
  const Tensor logits = Tensor::from(std::vector<float>{log3, 0, 0, log3}, {2, 2});
  const Tensor labels = Tensor::from(std::vector<int32_t>{0, 0}, {2});
  const double right = -std::log(0.75), wrong = -std::log(0.25);
  const auto labelled = [](const Tensor& y) { return data::Batch{{}, y, {}}; };
  CHECK(mean_cross_entropy(logits, labelled(labels), 0).item() == Approx((right + wrong) / 2));
  // Both rows hold one 3/4 and one 1/4: their mean over the classes is the same.
  CHECK(mean_cross_entropy(logits, labelled(labels), 0.2).item() ==
        Approx(0.8 * (right + wrong) / 2 + 0.2 * (right + wrong) / 2));
  const Tensor first = Tensor::from(std::vector<int32_t>{0}, {1});
  CHECK(mean_cross_entropy(logits.sliced(0, 0, 1), labelled(first), 0.2).item() ==
        Approx(0.8 * right + 0.2 * (right + wrong) / 2));
}

TEST_CASE("objective: cross-entropy of mixed images by hand", "[train]") {
  const float log3 = std::log(3.f);
  const Tensor logits = Tensor::from(std::vector<float>{log3, 0, 0, log3}, {2, 2});
  const auto labels = [](int32_t a, int32_t b) {
    return Tensor::from(std::vector<int32_t>{a, b}, {2});
  };
  const data::Batch batch{
      {}, labels(0, 1), {}, labels(1, 1), Tensor::from(std::vector<float>{0.75f, 0.5f}, {2})};
  const double right = -std::log(0.75), wrong = -std::log(0.25);
  const double mixed = (0.75 * right + 0.25 * wrong + right) / 2, uniform = (right + wrong) / 2;
  CHECK(mean_cross_entropy(logits, batch, 0).item() == Approx(mixed));
  CHECK(mean_cross_entropy(logits, batch, 0.2).item() == Approx(0.8 * mixed + 0.2 * uniform));
}

TEST_CASE("objective: the TRADES terms by hand", "[train]") {
  const models::ClassifierSettings s = tiny_moe(2);
  Learner learner(s, 2);
  stir(learner.model);
  const data::Batch batch = batch_for(s);
  const Tensor other = random_images(16, s, 1);
  TrainSettings settings;
  settings.beta = 3;
  const Terms terms = trades_terms(learner, batch, other, {.train = settings});
  double expected = 0;
  const auto p = terms.clean.logits.to_vector<float>(),
             q = terms.adversarial.logits.to_vector<float>();
  const auto log_softmax = [&](const std::vector<float>& z, int64_t i, int64_t c) {
    double sum = 0;
    for (int64_t k = 0; k < s.classes; ++k) sum += std::exp(double(z[size_t(i * s.classes + k)]));
    return double(z[size_t(i * s.classes + c)]) - std::log(sum);
  };
  for (int64_t i = 0; i < 16; ++i) {
    expected -= log_softmax(p, i, batch.labels.data_as<int32_t>()[i]) / 16;
    for (int64_t c = 0; c < s.classes; ++c)
      expected +=
          3 * std::exp(log_softmax(p, i, c)) * (log_softmax(p, i, c) - log_softmax(q, i, c)) / 16;
  }
  CHECK(terms.loss.item() == Approx(expected).epsilon(1e-4));
  CHECK(trades_terms(learner, batch, batch.images, {.train = settings}).loss.item() ==
        Approx(mean_cross_entropy(terms.clean.logits, batch, 0).item()).epsilon(1e-4));
}

TEST_CASE("objective: the training attack leaves the model alone", "[train]") {
  Learner learner(tiny_moe(2), 2);
  stir(learner.model);
  const data::Batch batch = batch_for(learner.model.settings());
  const uint64_t before = fingerprint(learner.model);
  TrainSettings settings;
  for (const char* gate : {"through", "blocked", "alternate"})
    for (attacks::Loss loss : {attacks::Loss::cross_entropy, attacks::Loss::kl_divergence}) {
      settings.gate = gate;
      const Tape tape;  // an attack inside a recorded step sees none of it
      const Tensor x = training_attack(learner, batch, loss, step_of(settings, 0.1, 0.1));
      CHECK(x.var() == 0);
      CHECK(x.to_vector<float>() != batch.images.to_vector<float>());
    }
  CHECK(fingerprint(learner.model) == before);
}

TEST_CASE("objective: rounds, epochs and gates of a training attack differ", "[train]") {
  Learner learner(tiny_moe(2), 2);
  stir(learner.model);
  const data::Batch batch = batch_for(learner.model.settings());
  TrainSettings settings;
  const auto attacked = [&](StepSettings step, int round) {
    return training_attack(learner, batch, attacks::Loss::cross_entropy, step, round)
        .to_vector<float>();
  };
  StepSettings step = step_of(settings, 0.1, 0.1);
  const auto first = attacked(step, 0);
  CHECK(first == attacked(step, 0));
  CHECK(first != attacked(step, 1));
  StepSettings next = step;
  next.epoch = 1;
  CHECK(first != attacked(next, 0));
  CHECK(attacked(next, 0) != attacked(step, 1));
  settings.gate = "through";
  const auto through = attacked(step, 0);
  CHECK(through != first);
  settings.gate = "alternate";
  CHECK(attacked(step, 0) == through);
  step.iteration = 1;
  CHECK(attacked(step, 0) == first);
}

// With a rate of zero a level changes nothing, so each rate must move its own group alone.
TEST_CASE("advmoe: each level moves its own parameters", "[train]") {
  const auto moved = [](Step method, double rate, double router_rate) {
    Learner learner(tiny_moe(2), 2);
    TrainSettings settings;
    settings.steps = 2;
    const Snapshot before(learner.model);
    method(learner, batch_for(learner.model.settings()), step_of(settings, rate, router_rate));
    return changed(before, Snapshot(learner.model));
  };
  CHECK(moved(advmoe_step, 0, 0) == std::pair(0, 0));
  const auto lower = moved(advmoe_step, 0.1, 0), upper = moved(advmoe_step, 0, 0.1);
  CHECK(lower.first == 0);
  CHECK(lower.second > 20);
  CHECK(upper.first > 10);
  CHECK(upper.second == 0);
  for (Step method : {natural_step, at_step, trades_step, mart_step, rt_er_step}) {
    const auto both = moved(method, 0.1, 0.1);
    CHECK(both.first == upper.first);
    CHECK(both.second == lower.second);
  }
}

TEST_CASE("advmoe: a dense model is refused", "[train]") {
  Learner learner(tiny_dense(), 2);
  const TrainSettings settings;
  CHECK_THROWS_WITH(advmoe_step(learner, batch_for(tiny_dense()), step_of(settings, 0.1, 0.1)),
                    Catch::Contains("router"));
}

TEST_CASE("methods: the loss falls on a batch that is seen again and again", "[train]") {
  for (Step method : {natural_step, at_step, trades_step, mart_step, advmoe_step, rt_er_step}) {
    models::ClassifierSettings s = tiny_moe(2);
    s.init = models::Init::uniform;
    Learner learner(s, 2);
    TrainSettings settings;
    settings.eps = 0.02;
    settings.steps = 2;
    settings.beta = 1;
    const data::Batch batch = batch_for(s);
    const auto loss = [&] {
      return read(method(learner, batch, step_of(settings, 0.05, 0.05))).loss;
    };
    const double first = loss();
    double last = 0;
    for (int i = 0; i < 25; ++i) last = loss();
    CHECK(last < 0.8 * first);
  }
}

// A label of weight 0 must be in no loss, neither the update's nor the attack's.
TEST_CASE("methods: a step on mixed images follows the weights of their labels", "[train]") {
  const models::ClassifierSettings s = tiny_moe(2);
  const Tensor labels = random_labels(16, s.classes), others = random_labels(16, s.classes, 1);
  for (Step method : {natural_step, at_step, trades_step, mart_step, advmoe_step, rt_er_step}) {
    const auto trained = [&](const Tensor& one, const Tensor& other, double weight) {
      Learner learner(s, 2);
      TrainSettings settings;
      settings.steps = 1;
      settings.label_smoothing = 0.1;
      data::Batch batch{random_images(16, s), one, row_numbers(16)};
      if (other.defined()) {
        batch.other_labels = other;
        batch.weight = Tensor::full({16}, weight);
      }
      const StepStatistics seen = read(method(learner, batch, step_of(settings, 0.1, 0.1)));
      return std::tuple(fingerprint(learner.model), seen.loss);
    };
    const auto first = trained(labels, {}, 0), second = trained(others, {}, 0);
    CHECK(first != second);
    CHECK(trained(labels, others, 1) == first);
    CHECK(trained(labels, others, 0) == second);
    const auto between = trained(labels, others, 0.5);
    CHECK(between != first);
    CHECK(between != second);
  }
}

TEST_CASE("descend: what is not finite stops the step before anything moves", "[train]") {
  models::ClassifierSettings s = tiny_moe(2);
  s.router.score_norm = false;
  const TrainSettings settings;
  const auto spoiled = [&](const std::string& name, float value, Step method) {
    Learner learner(s, 2);
    for (const NamedTensor& t : state_of(learner.model))
      if (t.name == name) {
        t.value->data_as<float>()[0] = value;
        t.value->mark_written();
      }
    const Snapshot before(learner.model);
    std::string what;
    try {
      method(learner, batch_for(s), step_of(settings, 0.1, 0.1));
    } catch (const Diverged& diverged) {
      what = diverged.what();
    }
    const Snapshot after(learner.model);
    for (size_t i = 0; i < before.values.size(); ++i)
      CHECK(
          std::equal(before.values[i].begin(), before.values[i].end(), after.values[i].begin(),
                     [](float a, float b) { return a == b || (std::isnan(a) && std::isnan(b)); }));
    CHECK(what.find('\n') == what.npos);
    return what;
  };
  const float nan = std::numeric_limits<float>::quiet_NaN(),
              inf = std::numeric_limits<float>::infinity();
  for (Step method : {natural_step, at_step, trades_step, mart_step, advmoe_step, rt_er_step}) {
    CHECK(spoiled("fc.bias", nan, method) == "the loss is not finite");
    CHECK(spoiled("router.fc.bias", inf, method) == "a router score is not finite");
  }
}

TEST_CASE("descend: a gradient that is not finite is named", "[train]") {
  Learner learner(tiny_dense(), 2);
  const Snapshot before(learner.model);
  Tape tape;
  for (FlatParameters* group : learner.groups()) group->watch(tape);
  Tensor bias;
  for (const NamedTensor& t : parameters_of(learner.model))
    if (t.name == "fc.bias") bias = *t.value;
  const Tensor loss = sqrt(sum(square(bias)));  // 0 at a zero bias, its slope 0 / 0
  FiniteChecks checks;
  CHECK_THROWS_WITH(descend(tape, loss, learner.groups(), {0.1}, {}, checks),
                    "the gradient of fc.bias is not finite");
  CHECK(changed(before, Snapshot(learner.model)) == std::pair(0, 0));
}

}  // namespace moat::tests
