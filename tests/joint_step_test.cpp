#include "train/joint_step.h"

#include <catch2/catch.hpp>
#include <cmath>

#include "engine/ops/elementwise.h"
#include "engine/ops/reduce.h"
#include "engine/tape.h"
#include "tests/models_fixture.h"
#include "train/methods.h"

namespace moat::tests {

using namespace engine;
using namespace train;

namespace {

using Rows = std::vector<std::vector<double>>;

Tensor tensor_of(const Rows& rows, Dtype dtype = Dtype::f64) {
  std::vector<double> values;
  for (const auto& row : rows) values.insert(values.end(), row.begin(), row.end());
  return Tensor::from(values, {int64_t(rows.size()), int64_t(rows[0].size())}).to(dtype);
}

data::Batch labelled(const std::vector<int32_t>& labels) {
  return {{}, Tensor::from(labels, {int64_t(labels.size())}), {}};
}

std::vector<double> softmax_of(std::vector<double> z) {
  double sum = 0;
  for (double& v : z) sum += v = std::exp(v);
  for (double& v : z) v /= sum;
  return z;
}

// MART's loss by the definition.
double mart_of(const Rows& clean, const Rows& adversarial, const std::vector<int32_t>& labels,
               double beta) {
  double loss = 0;
  for (size_t i = 0; i < labels.size(); ++i) {
    const auto p = softmax_of(clean[i]), q = softmax_of(adversarial[i]);
    const auto y = size_t(labels[i]);
    double runner_up = 0, kl = 0;
    for (size_t c = 0; c < p.size(); ++c) {
      if (c != y) runner_up = std::max(runner_up, q[c]);
      kl += p[c] * std::log(p[c] / q[c]);
    }
    loss += -std::log(q[y]) - std::log(1.0001 - runner_up) + beta * kl * (1 - p[y]);
  }
  return loss / double(labels.size());
}

// One batch, seen by one learner after another.
struct Setting {
  models::ClassifierSettings model = tiny_moe(2);
  TrainSettings train;
  data::Batch batch{random_images(16, model), random_labels(16, model.classes), row_numbers(16)};
  Setting() { train.steps = 1; }
  StepSettings step(int epoch = 0) const {
    return {.train = train,
            .seed = 1,
            .epoch = epoch,
            .learning_rate = 0.1,
            .router_learning_rate = 0.1};
  }
};

std::vector<std::vector<float>> values_of(models::Classifier& model, Role role) {
  std::vector<std::vector<float>> out;
  for (const NamedTensor& t : state_of(model))
    if (t.role == role) out.push_back(t.value->to_vector<float>());
  return out;
}

}  // namespace

TEST_CASE("mart: the loss by hand", "[train][mart]") {
  const double log3 = std::log(3.);
  // Probabilities of two classes, clean and adversarial: (3/4, 1/4) and (1/2, 1/2) with label 0,
  // (1/4, 3/4) and (3/4, 1/4) with label 0.
  const Rows clean{{log3, 0}, {0, log3}}, adversarial{{0, 0}, {log3, 0}};
  const auto kl = [](double p, double q) {
    return p * std::log(p / q) + (1 - p) * std::log((1 - p) / (1 - q));
  };
  const double first = -std::log(0.5) - std::log(0.5001) + 6 * kl(0.75, 0.5) * 0.25,
               second = -std::log(0.75) - std::log(0.7501) + 6 * kl(0.25, 0.75) * 0.75;
  TrainSettings settings;
  CHECK(mart_loss(tensor_of(clean), tensor_of(adversarial), labelled({0, 0}), settings).item() ==
        Approx((first + second) / 2).epsilon(1e-12));
  CHECK(mart_of(clean, adversarial, {0, 0}, 6) == Approx((first + second) / 2).epsilon(1e-12));
  settings.beta = 0;
  settings.label_smoothing = 0.2;
  const double uniform = -(std::log(0.75) + std::log(0.25)) / 2;
  CHECK(mart_loss(tensor_of({clean[1]}), tensor_of({adversarial[1]}), labelled({0}), settings)
            .item() ==
        Approx(-0.8 * std::log(0.75) + 0.2 * uniform - std::log(0.7501)).epsilon(1e-12));
}

TEST_CASE("mart: the gradient in float64", "[train][mart]") {
  Rows clean{{0.3, -1, 0.8}, {2, 0.1, -0.4}}, adversarial{{-0.6, 0.5, 0.2}, {0.7, 1.5, 1.1}};
  const std::vector<int32_t> labels{2, 0};
  const TrainSettings settings;
  Tape tape;
  const Tensor p = tape.watch(tensor_of(clean)), q = tape.watch(tensor_of(adversarial));
  const Tensor loss = mart_loss(p, q, labelled(labels), settings);
  CHECK(loss.item() == Approx(mart_of(clean, adversarial, labels, 6)).epsilon(1e-12));
  const Gradients gradients = tape.gradients(loss);
  constexpr double kStep = 1e-5;
  for (const auto& [rows, variable] : {std::pair{&clean, &p}, {&adversarial, &q}}) {
    const auto got = gradients.of(*variable).to_vector<double>();
    for (size_t i = 0; i < got.size(); ++i) {
      double& v = (*rows)[i / 3][i % 3];
      const double at = v;
      v = at + kStep;
      const double up = mart_of(clean, adversarial, labels, 6);
      v = at - kStep;
      const double down = mart_of(clean, adversarial, labels, 6);
      v = at;
      CHECK(got[i] == Approx((up - down) / (2 * kStep)).epsilon(1e-6).margin(1e-9));
    }
  }
}

TEST_CASE("mart: finite for logits far apart", "[train][mart]") {
  const TrainSettings settings;
  for (const double gap : {1e2, 1e5})
    for (const int32_t label : {0, 1, 2}) {
      Tape tape;
      const Tensor q = tape.watch(tensor_of({{gap, 0, -gap}}, Dtype::f32));
      const Tensor loss =
          mart_loss(tensor_of({{-gap, gap, 0}}, Dtype::f32), q, labelled({label}), settings);
      CHECK(std::isfinite(loss.item()));
      for (const float g : tape.gradients(loss).of(q).to_vector<float>()) CHECK(std::isfinite(g));
    }
}

TEST_CASE("awp: perturbed weights come back to the last bit, statistics stay", "[train][awp]") {
  const Setting s;
  Learner learner(s.model, 2);
  stir(learner.model);
  const auto weights = values_of(learner.model, Role::parameter),
             statistics = values_of(learner.model, Role::buffer);
  constexpr double kGamma = 0.01;
  const auto loss = [&] {
    return mean_cross_entropy(training_pass(learner, s.batch.images, s.batch, s.step()).logits,
                              s.batch, 0);
  };
  const auto value = [&] {
    const NoTapeScope none;
    const Tensor found = loss();
    return found.item();
  };
  const double before = value();
  const auto moved_statistics = values_of(learner.model, Role::buffer);  // a pass in training mode
  CHECK(moved_statistics != statistics);
  {
    PerturbedWeights perturbed(learner, learner.groups(), kGamma, loss);
    CHECK(values_of(learner.model, Role::buffer) == moved_statistics);
    size_t i = 0, moved = 0;
    for (const NamedTensor& t : parameters_of(learner.model)) {
      double norm = 0, distance = 0;
      const auto now = t.value->to_vector<float>();
      for (size_t j = 0; j < now.size(); ++j) {
        norm += std::pow(weights[i][j], 2);
        distance += std::pow(double(now[j]) - weights[i][j], 2);
      }
      INFO(t.name);
      if (t.value->rank() < 2)
        CHECK(distance == 0);
      else if (distance > 0)
        CHECK(std::sqrt(distance) == Approx(kGamma * std::sqrt(norm)).epsilon(1e-3));
      moved += distance > 0;
      ++i;
    }
    CHECK(moved > 5);
    CHECK(value() > before);
    perturbed.restore();
    CHECK(values_of(learner.model, Role::parameter) == weights);
  }
  { const PerturbedWeights forgotten(learner, learner.groups(), kGamma, loss); }
  CHECK(values_of(learner.model, Role::parameter) == weights);
}

TEST_CASE("awp: a step goes from the old weights along the slope at the perturbed ones",
          "[train][awp]") {
  for (const Step method : {at_step, trades_step, mart_step}) {
    Setting s;
    const auto trained = [&](double awp, int warmup, int epoch) {
      Learner learner(s.model, 2);
      s.train.awp = awp;
      s.train.awp_warmup = warmup;
      read(method(learner, s.batch, s.step(epoch)));
      return values_of(learner.model, Role::parameter);
    };
    const auto plain = trained(0, 0, 1), perturbed = trained(0.01, 0, 1);
    CHECK(plain != perturbed);
    CHECK(trained(0.01, 2, 1) == plain);
    CHECK(trained(0.01, 1, 1) == perturbed);
    CHECK(trained(0.01, 0, 1) == perturbed);
    // A learning rate of 0 leaves the weights where they were.
    Learner learner(s.model, 2);
    const auto before = values_of(learner.model, Role::parameter);
    StepSettings still = s.step();
    still.learning_rate = still.router_learning_rate = 0;
    read(method(learner, s.batch, still));
    CHECK(values_of(learner.model, Role::parameter) == before);
  }
}

TEST_CASE("awp: the update by hand", "[train][awp]") {
  const Setting s;
  Learner learner(tiny_dense(), 2), other(tiny_dense(), 2);
  TrainSettings train;
  train.awp = 0.02;
  train.momentum = train.weight_decay = 0;
  const StepSettings step{.train = train, .seed = 1, .learning_rate = 0.5};
  const auto objective = [&](Learner& on) {
    Terms terms;
    terms.adversarial = training_pass(on, s.batch.images, s.batch, step);
    terms.loss = mean_cross_entropy(terms.adversarial.logits, s.batch, 0);
    return terms;
  };
  joint_step(learner, s.batch, step, [&] { return objective(learner); });
  // By hand: w + v from the slope at w, and w - lr · slope at w + v.
  const auto slope = [&] {
    Tape tape;
    other.experts->watch(tape);
    other.experts->collect(tape.gradients(objective(other).loss));
  };
  const Tensor w = other.experts->values().clone();
  slope();
  other.experts->climb(0.02);
  slope();
  const auto g = other.experts->gradients().to_vector<float>(), start = w.to_vector<float>(),
             got = learner.experts->values().to_vector<float>();
  for (size_t i = 0; i < got.size(); ++i)
    REQUIRE(got[i] == Approx(start[i] - 0.5 * g[i]).epsilon(1e-6).margin(1e-7));
}

TEST_CASE("a gradient too long to be clipped in float32 is no healthy one", "[training]") {
  for (double slope : {1e18, 1e20}) {  // 4e36 fits into float32, 4e40 does not
    CAPTURE(slope);
    Tensor w = Tensor::full({4}, 1);
    FlatParameters group({{"w", &w, Role::parameter}});
    FiniteChecks checks;
    Tape tape;
    group.watch(tape);
    const Tensor loss = sum(scale(w, slope));
    const auto update = [&] {
      descend(tape, loss, {&group}, {0.5}, {.momentum = 0, .weight_decay = 0, .clip_norm = 1},
              checks);
    };
    if (slope == 1e18)
      CHECK_NOTHROW(update());
    else
      CHECK_THROWS_WITH(update(), "the gradient's norm is not finite in float32");
    CHECK(w.to_vector<float>() == std::vector<float>(4, slope == 1e18 ? 0.75f : 1.0f));
  }
}

}  // namespace moat::tests
