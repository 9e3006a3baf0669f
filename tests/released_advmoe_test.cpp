#include <catch2/catch.hpp>
#include <cmath>
#include <cstdlib>

#include "data/catalog.h"
#include "data/loader.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/loss.h"
#include "engine/ops/reduce.h"
#include "engine/tape.h"
#include "tests/learner_fixture.h"
#include "train/advmoe.h"
#include "train/methods.h"
#include "train/trainer.h"
#include "train/training_attack.h"

namespace moat::tests {

using namespace engine;
using namespace train;

namespace {

// KL(softmax p ‖ softmax q) as PyTorch's kl_div(log_softmax(q), softmax(p)) computes it: 0 log 0 is
// 0 in the value, and the slope of the target is log(target) + 1 - log q, with log 0.
Tensor naive_divergence(const Tensor& p_logits, const Tensor& q_logits) {
  const Tensor target = softmax(p_logits), log_q = log_softmax(q_logits);
  const int64_t rows = target.dim(0), classes = target.dim(1);
  std::vector<float> value(static_cast<size_t>(rows), 0.0f);
  for (int64_t i = 0; i < rows * classes; ++i) {
    const float t = target.data_as<float>()[i], l = log_q.data_as<float>()[i];
    if (t > 0) value[static_cast<size_t>(i / classes)] += t * (std::log(t) - l);
  }
  return recorded(
      "naive_divergence", {target, log_q}, Tensor::from(value, {rows}),
      [target = target.detached(), log_q = log_q.detached(), rows, classes](const Tensors& d,
                                                                            const Needs&) {
        Tensor d_target = Tensor::zeros({rows, classes}), d_log_q = Tensor::zeros({rows, classes});
        for (int64_t i = 0; i < rows * classes; ++i) {
          const float up = d[0].contiguous().data_as<float>()[i / classes],
                      t = target.data_as<float>()[i];
          d_target.data_as<float>()[i] = up * (std::log(t) + 1 - log_q.data_as<float>()[i]);
          d_log_q.data_as<float>()[i] = -up * t;
        }
        return Tensors{d_target, d_log_q};
      });
}

struct Slopes {
  double value;
  std::vector<float> d_p, d_q;
};

Slopes slopes(Divergence divergence, const std::vector<float>& p, const std::vector<float>& q) {
  Tape tape;
  const auto n = static_cast<int64_t>(p.size());
  const Tensor a = tape.watch(Tensor::from(p, {1, n})), b = tape.watch(Tensor::from(q, {1, n}));
  const Tensor value = divergence(a, b);
  const Gradients g = tape.gradients(value);
  return {value.item(), g.of(a).to_vector<float>(), g.of(b).to_vector<float>()};
}

}  // namespace

TEST_CASE("released advmoe: the divergence of a score gap of 1e5 is finite", "[train][advmoe]") {
  const float gap = 1e5f;
  const auto check = [](const Slopes& got, double value, const std::vector<double>& d_p,
                        const std::vector<double>& d_q) {
    CHECK(got.value == Approx(value));
    for (size_t c = 0; c < d_p.size(); ++c) {
      CHECK(got.d_p[c] == Approx(d_p[c]).margin(1e-6));
      CHECK(got.d_q[c] == Approx(d_q[c]).margin(1e-6));
    }
  };
  // P = (1, 0): KL = -log Q_0, the slopes p (log p - log q - KL) are 0 · anything finite, q - p.
  check(slopes(kl_divergence, {gap, 0}, {0, 0}), std::log(2.0), {0, 0}, {-0.5, 0.5});
  check(slopes(kl_divergence, {gap, 0}, {0, gap}), gap, {0, 0}, {-1, 1});
  check(slopes(kl_divergence, {gap, 0}, {gap, 0}), 0, {0, 0}, {0, 0});
  // P = (1/2, 1/2) and Q = (1, 0): KL = 1e5 / 2 - log 2, slopes 1/2 (-log 2 - log q_c - KL).
  const double half = gap / 2;
  check(slopes(kl_divergence, {0, 0}, {gap, 0}), half - std::log(2.0), {-half / 2, half / 2},
        {0.5, -0.5});
  // What the release does has the same values where no probability is 0, and no slope at a gap.
  const Slopes mild = slopes(naive_divergence, {1, 0}, {0, 0.5f}),
               exact = slopes(kl_divergence, {1, 0}, {0, 0.5f});
  check(mild, exact.value, {exact.d_p[0], exact.d_p[1]}, {exact.d_q[0], exact.d_q[1]});
  const Slopes naive = slopes(naive_divergence, {gap, 0}, {0, 0});
  CHECK(naive.value == Approx(std::log(2.0)));
  for (float d : naive.d_p) CHECK(std::isnan(d));
}

TEST_CASE("released advmoe: the router's loss of two images by hand", "[train][advmoe]") {
  for (int experts : {2, 3}) {
    const models::ClassifierSettings s = tiny_moe(experts);
    Learner learner(s, 2);
    data::Batch batch = batch_for(s, 2);
    batch.labels = Tensor::from(std::vector<int32_t>{4, 3}, {2});
    const Tensor other = random_images(2, s, 1);
    TrainSettings settings;
    settings.router_weight = 5;
    settings.beta = 3;
    const Rows clean(learner.model.scores(batch.images, Mode::train)),
        attacked(learner.model.scores(other, Mode::train));
    const int64_t classes[] = {4 % experts, 3 % experts};
    double expected = 0;
    for (int64_t i = 0; i < 2; ++i)
      expected += (5 * clean.cross_entropy(i, classes[i]) + 3 * clean.kl(attacked, i)) / 2;
    const Snapshot before(learner.model);
    const StepReport out =
        router_level(learner, batch, other, step_of(settings, 0.1, 0.1), {}, kl_divergence);
    CHECK(out.loss.item() == Approx(expected).epsilon(1e-4));
    const auto moved = changed(before, Snapshot(learner.model));
    CHECK(moved.first > 10);
    CHECK(moved.second == 0);
  }
}

TEST_CASE("released advmoe: each level moves its own parameters", "[train][advmoe]") {
  TrainSettings settings;
  settings.steps = 2;
  settings.form = "released";
  const auto moved = [&](double rate, double router_rate) {
    Learner learner(tiny_moe(2), 2);
    const Snapshot before(learner.model);
    read(advmoe_step(learner, batch_for(tiny_moe(2)), step_of(settings, rate, router_rate)));
    return changed(before, Snapshot(learner.model));
  };
  CHECK(moved(0, 0) == std::pair(0, 0));
  const auto lower = moved(0.1, 0), upper = moved(0, 0.1);
  CHECK(lower.first == 0);
  CHECK(lower.second > 20);
  CHECK(upper.first > 10);
  CHECK(upper.second == 0);
}

// One step of it, from where it starts: the sign of the slope of both divergences together.
TEST_CASE("released advmoe: the attack climbs the divergences of logits and scores",
          "[train][advmoe]") {
  const models::ClassifierSettings s = tiny_moe(2);
  Learner learner(s, 2);
  stir(learner.model);
  const models::Classifier& model = learner.model;
  const data::Batch batch = batch_for(s, 6);
  TrainSettings settings;
  settings.gate = "through";
  const auto attacked = [&](int steps, int round) {
    settings.steps = steps;
    return joint_attack(learner, batch, step_of(settings, 0.1, 0.1), round);
  };
  const uint64_t before = fingerprint(learner.model);
  const Tensor start = attacked(0, 1);
  CHECK(start.to_vector<float>() != attacked(0, 0).to_vector<float>());
  const models::Prediction clean = model.forward(batch.images, Mode::eval);
  Tape tape;
  const Tensor x = tape.watch(start);
  const models::Prediction p = model.forward(x, Mode::eval);
  const Tensor loss = add(sum(kl_divergence(clean.logits, p.logits)),
                          sum(kl_divergence(clean.scores, model.scores(x, Mode::eval))));
  const std::vector<float> slope = tape.gradients(loss).of(x).to_vector<float>(),
                           got = attacked(1, 1).to_vector<float>();
  const float* image = batch.images.data_as<float>();
  const float step = float(settings.eps / 4), eps = float(settings.eps);
  int wrong = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    float v = start.data_as<float>()[i] + step * float((slope[i] > 0) - (slope[i] < 0));
    v = std::min(std::max(v, image[i] - eps), image[i] + eps);
    if (std::abs(got[i] - std::min(std::max(v, 0.0f), 1.0f)) > 1e-6f) ++wrong;
  }
  CHECK(wrong <= int(got.size()) / 100);  // slopes of rounding's size have either sign
  CHECK(fingerprint(learner.model) == before);
}

namespace {

// Up to 20 batches of the release, with its router, gate, rates, weights and steps: within a few of
// them the router's scores part so far that a softmax of theirs is 0.
void require_that_its_own_divergence_ends_the_run(const Config& config, const data::ImageSet& set) {
  models::ClassifierSettings s = classifier_settings(config, set);
  s.blocks = {1};  // of the experts, which are not what fails
  s.widths = {8};
  s.stem_width = 8;
  const data::Loader loader(set, {.batch = config.train.batch, .seed = 0});
  const auto batches_survived = [&](Divergence divergence, std::string* what) {
    Learner learner(s, 0);
    int done = 0;
    for (int epoch = 0; done < 20; ++epoch) {
      data::Epoch batches = loader.epoch(epoch);
      for (const data::Batch& batch : batches) {
        StepSettings step = step_of(config.train, 0.1, 0.1);
        step.epoch = epoch;
        try {
          read(released_advmoe_step(learner, batch, step, divergence));
        } catch (const Diverged& diverged) {
          *what = diverged.what();
          return done;
        }
        if (++done == 20) break;
      }
    }
    return done;
  };
  std::string what;
  const int survived = batches_survived(naive_divergence, &what);
  INFO(survived << " batches: " << what);
  CHECK(survived < 20);
  CHECK_THAT(what, Catch::StartsWith("the gradient of router.") && Catch::Contains("not finite"));
  what.clear();
  CHECK(batches_survived(kl_divergence, &what) == 20);
  CHECK(what == "");
}

}  // namespace

TEST_CASE("released advmoe: its own divergence ends the run, ours does not",
          "[train][advmoe][.long]") {
  Config config = preset("cifar10-advmoe-released");
  config.train.eps = 0.3;  // of the digits, as coarse to the eye as 8/255 is fine
  config.train.step = config.train.eps * 5 / 8;
  require_that_its_own_divergence_ends_the_run(config, data::load({}, data::Split::train));
}

// MOAT_CIFAR10: a folder with train/<class>/*.jpg.
TEST_CASE("released advmoe: the same on CIFAR-10", "[.cifar10]") {
  const char* folder = std::getenv("MOAT_CIFAR10");
  if (!folder) {
    WARN("skipped: CIFAR-10 as image files is needed, MOAT_CIFAR10=FOLDER moat_tests '[.cifar10]'");
    return;
  }
  const data::DataConfig images{.name = "imagefolder", .path = folder, .limit = 2560};
  require_that_its_own_divergence_ends_the_run(preset("cifar10-advmoe-released"),
                                               data::load(images, data::Split::train));
}

}  // namespace moat::tests
