#include "train/rt_er.h"

#include <catch2/catch.hpp>
#include <functional>

#include "engine/ops/shape.h"
#include "engine/tape.h"
#include "tests/learner_fixture.h"
#include "train/methods.h"
#include "train/training_attack.h"

namespace moat::tests {

using namespace engine;
using namespace train;

namespace {

constexpr int kExperts = 3;

int64_t second_largest(const float* scores) {
  int64_t best = 0;
  for (int64_t e = 1; e < kExperts; ++e)
    if (scores[e] > scores[best]) best = e;
  int64_t second = best == 0 ? 1 : 0;
  for (int64_t e = 0; e < kExperts; ++e)
    if (e != best && scores[e] > scores[second]) second = e;
  return second;
}

// A step of RT-ER on two images whose examples are given.
struct TwoImages {
  Learner learner;
  data::Batch batch;
  TrainSettings settings;
  RtErExamples examples;
  explicit TwoImages(const models::ClassifierSettings& s = tiny_networks(kExperts))
      : learner(s, 2), batch(batch_for(s, 2)) {
    stir(learner.model);
    for (const NamedTensor& t : state_of(learner.model))  // else divergences of rounding's size
      if (t.name.ends_with("fc.weight")) t.value->copy_from(scale(*t.value, 100));
    settings.beta = 30;
    examples.mixture = random_images(2, s, 1);
    examples.experts = {second_experts(learner.model.scores(batch.images, Mode::eval))};
    examples.along = {random_images(2, s, 2)};
  }
  Terms terms() { return rt_er_terms(learner, batch, examples, step_of(settings, 0.1, 0.1)); }
  int32_t label(int64_t i) const { return batch.labels.data_as<int32_t>()[i]; }
};

}  // namespace

TEST_CASE("rt-er: the second expert is that of the second largest score", "[train][rt-er]") {
  const auto seconds = [](const std::vector<float>& scores) {
    const auto rows = static_cast<int64_t>(scores.size()) / kExperts;
    return second_experts(Tensor::from(scores, {rows, kExperts})).to_vector<int32_t>();
  };
  CHECK(seconds({3, 1, 2, /**/ -1, -2, -3, /**/ 1, 5, 2}) == std::vector<int32_t>{2, 1, 2});
  // Among equals the lowest index is first, the next one second.
  CHECK(seconds({1, 1, 0, /**/ 0, 0, 0, /**/ 0, 1, 0, /**/ 0, 1, 1}) ==
        std::vector<int32_t>{1, 1, 0, 2});
  const Learner learner(tiny_networks(kExperts), 2);
  const Tensor scores =
      learner.model.scores(random_images(40, learner.model.settings()), Mode::eval);
  const auto chosen = second_experts(scores).to_vector<int32_t>();
  for (int64_t i = 0; i < 40; ++i)
    CHECK(chosen[size_t(i)] == second_largest(scores.data_as<float>() + i * kExperts));
}

TEST_CASE("rt-er: the loss of two images by hand", "[train][rt-er]") {
  for (const char* statistics : {"batch", "running"}) {
    TwoImages two;
    two.settings.batch_norm = statistics;
    const Terms terms = two.terms();
    // Batch statistics are those of all that an expert sees in the step.
    const Mode mode = std::string(statistics) == "batch" ? Mode::train : Mode::eval;
    const Tensor experts = two.examples.experts[0];
    const Tensor route = argmax(two.learner.model.scores(two.examples.mixture, mode), 1);
    const Tensor logits = two.learner.model.forward_along(
        concat({two.examples.mixture, two.batch.images, two.examples.along[0]}, 0),
        concat({route, experts, experts}, 0), mode);
    const Rows mixture(logits.sliced(0, 0, 2)), p(logits.sliced(0, 2, 4)),
        q(logits.sliced(0, 4, 6));
    double expected = 0;
    for (int64_t i = 0; i < 2; ++i)
      expected += (mixture.cross_entropy(i, two.label(i)) + 30 * p.kl(q, i)) / 2;
    CHECK(p.kl(q, 0) > 1e-4);
    CHECK(terms.loss.item() == Approx(expected).epsilon(1e-4));
    two.settings.beta = 0;
    CHECK(two.terms().loss.item() ==
          Approx((mixture.cross_entropy(0, two.label(0)) + mixture.cross_entropy(1, two.label(1))) /
                 2)
              .epsilon(1e-4));
  }
}

// In one pass of everything, so that norms have one population.
TEST_CASE("rt-er: the KL terms of all experts add up", "[train][rt-er]") {
  const auto s = GENERATE(tiny_networks(kExperts), tiny_moe(kExperts));
  TwoImages two(s);
  two.settings.kl_experts = "all";
  two.settings.steps = 1;
  const StepSettings step = step_of(two.settings, 0.1, 0.1);
  two.examples = rt_er_attacks(two.learner, two.batch, step);
  REQUIRE(two.examples.experts.size() == kExperts);
  Tensors images{two.examples.mixture},
      routes{argmax(two.learner.model.scores(two.examples.mixture, Mode::train), 1)};
  for (int32_t e = 0; e < kExperts; ++e) {
    const Tensor& experts = two.examples.experts[size_t(e)];
    CHECK(experts.to_vector<int32_t>() == std::vector<int32_t>{e, e});
    for (const Tensor& seen : {two.batch.images, two.examples.along[size_t(e)]}) {
      images.push_back(seen);
      routes.push_back(experts);
    }
  }
  const Tensor logits =
      two.learner.model.forward_along(concat(images, 0), concat(routes, 0), Mode::train);
  const auto part = [&](int64_t k) { return Rows(logits.sliced(0, 2 * k, 2 * k + 2)); };
  double expected = 0;
  for (int64_t i = 0; i < 2; ++i) expected += part(0).cross_entropy(i, two.label(i)) / 2;
  for (int64_t e = 0; e < kExperts; ++e)
    for (int64_t i = 0; i < 2; ++i) expected += 30 * part(2 * e + 1).kl(part(2 * e + 2), i) / 2;
  CHECK(two.terms().loss.item() == Approx(expected).epsilon(1e-4));
}

// The route is a step function of the router's numbers; what the gate adds is the slope of its
// probability (or raw score) as a factor, of value 1, on the logits of the chosen expert.
TEST_CASE("rt-er: the gradient through the router in float64", "[train][rt-er]") {
  for (models::GateForm gate : {models::GateForm::softmax, models::GateForm::raw}) {
    models::ClassifierSettings s = tiny_networks(kExperts, true);
    s.gate = gate;
    TwoImages two(s);
    models::Classifier& model = two.learner.model;
    convert(model, Dtype::f64);
    two.batch.images = two.batch.images.to(Dtype::f64);
    two.examples.mixture = two.examples.mixture.to(Dtype::f64);
    two.examples.along[0] = two.examples.along[0].to(Dtype::f64);

    Tape tape;
    const auto parameters = parameters_of(model);
    for (const NamedTensor& t : parameters) *t.value = tape.watch(*t.value);
    const Terms terms = two.terms();
    const Gradients gradients = tape.gradients(terms.loss);
    const auto routes = terms.adversarial.experts.to_vector<int32_t>();
    const Rows logits(terms.adversarial.logits);
    const auto gate_of = [&](int64_t i) {
      const Tensor scores = model.scores(two.examples.mixture, Mode::train).detached();
      return gate == models::GateForm::raw
                 ? Rows(scores).at(i, routes[size_t(i)])
                 : std::exp(Rows(scores).log_softmax(i, routes[size_t(i)]));
    };
    const double gate_before[] = {gate_of(0), gate_of(1)};
    const auto surrogate = [&] {
      double loss = 0;
      for (int64_t i = 0; i < 2; ++i) {
        const double factor = 1 + gate_of(i) - gate_before[i];
        std::vector<double> z;
        for (int64_t c = 0; c < s.classes; ++c) z.push_back(factor * logits.at(i, c));
        loss += Rows(Tensor::from(z, {1, s.classes})).cross_entropy(0, two.label(i)) / 2;
      }
      return loss;
    };
    const auto slope = [](double& at, const std::function<double()>& f) {
      constexpr double kStep = 1e-6;
      const double before = at;
      at = before + kStep;
      const double up = f();
      at = before - kStep;
      const double down = f();
      at = before;
      return (up - down) / (2 * kStep);
    };
    int router_numbers = 0, net_numbers = 0;
    for (const NamedTensor& t : parameters) {
      const Tensor analytic = gradients.of(*t.value);
      *t.value = t.value->detached();
      const bool is_router = t.name.starts_with("router.");
      const auto whole_loss = [&] { return two.terms().loss.item(); };
      for (int64_t k = 0; k < t.value->size(); k += is_router ? 37 : 101) {
        INFO(t.name << " [" << k << "]");
        double& number = t.value->data_as<double>()[k];
        const double want = is_router ? slope(number, surrogate) : slope(number, whole_loss);
        const double got = analytic.defined() ? analytic.contiguous().data_as<double>()[k] : 0;
        CHECK(got == Approx(want).margin(2e-7).epsilon(1e-4));
        ++(is_router ? router_numbers : net_numbers);
      }
    }
    CHECK(router_numbers > 10);
    CHECK(net_numbers > 50);
  }
}

TEST_CASE("rt-er: each attack is on what its term is about", "[train][rt-er]") {
  Learner learner(tiny_networks(kExperts), 2);
  stir(learner.model);
  const data::Batch batch = batch_for(learner.model.settings(), 6);
  TrainSettings settings;
  settings.steps = 3;
  const StepSettings step = step_of(settings, 0.1, 0.1);
  const uint64_t before = fingerprint(learner.model);
  settings.kl_experts = "second";
  const RtErExamples second = rt_er_attacks(learner, batch, step);
  settings.kl_experts = "all";
  const RtErExamples all = rt_er_attacks(learner, batch, step);
  CHECK(fingerprint(learner.model) == before);  // batch norms' statistics among the rest

  const auto mixture = training_attack(learner, batch, attacks::Loss::cross_entropy, step);
  CHECK(second.mixture.to_vector<float>() == mixture.to_vector<float>());
  CHECK(all.mixture.to_vector<float>() == mixture.to_vector<float>());
  // PGD along the route, and by itself: the mixture's own route has no part in it.
  const auto attacked_alone = [&](const Tensor& experts, uint32_t stream) {
    attacks::Victims victims = victims_of(batch);
    victims.routes = experts;
    return training_pgd(attack_model(learner.model), victims, {.path = attacks::Path::given}, step,
                        {0, stream})
        .to_vector<float>();
  };
  const Tensor seconds = second_experts(learner.model.scores(batch.images, Mode::eval));
  REQUIRE(second.along.size() == 1);
  CHECK(second.experts[0].to_vector<int32_t>() == seconds.to_vector<int32_t>());
  CHECK(second.along[0].to_vector<float>() == attacked_alone(seconds, 1));
  for (uint32_t e = 0; e < kExperts; ++e)
    CHECK(all.along[e].to_vector<float>() == attacked_alone(all.experts[e], e + 1));
  // Starts of their own.
  settings.steps = 0;
  const RtErExamples starts = rt_er_attacks(learner, batch, step);
  CHECK(starts.mixture.to_vector<float>() != starts.along[0].to_vector<float>());
  CHECK(starts.along[0].to_vector<float>() != starts.along[1].to_vector<float>());
}

TEST_CASE("rt-er: a step moves the chosen experts alone", "[train][rt-er]") {
  TrainSettings settings;
  settings.steps = 2;
  settings.weight_decay = 0;  // it moves every parameter
  settings.eps = 0.001;       // the attacked image stays with its expert
  const auto moved = [&](bool router_trained, double rate, double router_rate) {
    models::ClassifierSettings s = tiny_networks(4, router_trained);
    Learner learner(s, 2);
    const data::Batch batch = batch_for(s, 1);
    const StepSettings step = step_of(settings, rate, router_rate);
    const RtErExamples examples = rt_er_attacks(learner, batch, step);
    const auto first =
        learner.model.forward(examples.mixture, Mode::eval).experts.to_vector<int32_t>()[0];
    const auto second = examples.experts[0].to_vector<int32_t>()[0];
    CHECK(first != second);
    const Snapshot before(state_of(learner.model));
    read(rt_er_step(learner, batch, step));
    int router = 0, chosen = 0, others = 0;
    for (const std::string& name : before.moved(Snapshot(state_of(learner.model)))) {
      const bool is_chosen = name.starts_with(text("experts.", first, ".")) ||
                             name.starts_with(text("experts.", second, "."));
      if (name.find("running_") == name.npos)
        ++(name.starts_with("router.") ? router : is_chosen ? chosen : others);
      else if (settings.kl_experts == "second")
        CHECK(is_chosen);
    }
    return std::vector<int>{router, chosen, others};
  };
  const auto fixed = moved(false, 0.1, 0.1), trained = moved(true, 0.1, 0.1);
  CHECK(fixed[0] == 0);
  CHECK(fixed[1] > 20);
  CHECK(fixed[2] == 0);
  CHECK(trained == std::vector<int>{2, fixed[1], 0});
  CHECK(moved(true, 0, 0.1) == std::vector<int>{2, 0, 0});
  CHECK(moved(true, 0.1, 0) == std::vector<int>{0, fixed[1], 0});
  settings.kl_experts = "all";
  CHECK(moved(false, 0.1, 0.1)[2] > 20);
}

TEST_CASE("rt-er: running statistics move with batch statistics alone", "[train][rt-er]") {
  for (const char* statistics : {"batch", "running"}) {
    Learner learner(tiny_networks(2), 2);
    TrainSettings settings;
    settings.steps = 1;
    settings.batch_norm = statistics;
    const Snapshot before(state_of(learner.model));
    read(rt_er_step(learner, batch_for(learner.model.settings()), step_of(settings, 0.1, 0.1)));
    int parameters = 0, running = 0;
    for (const std::string& name : before.moved(Snapshot(state_of(learner.model))))
      ++(name.find("running_") != name.npos ? running : parameters);
    CHECK(parameters > 20);
    CHECK((running > 0) == (std::string(statistics) == "batch"));
  }
}

TEST_CASE("rt-er: a model without experts is refused", "[train][rt-er]") {
  Learner learner(tiny_dense(), 2);
  const TrainSettings settings;
  CHECK_THROWS_WITH(rt_er_step(learner, batch_for(tiny_dense()), step_of(settings, 0.1, 0.1)),
                    Catch::Contains("mixture of experts"));
}

}  // namespace moat::tests
