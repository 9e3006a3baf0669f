#include <catch2/catch.hpp>

#include "models/checkpoint.h"
#include "tests/learner_fixture.h"
#include "train/methods.h"

namespace moat::tests {

using namespace engine;
using namespace train;

namespace {

models::ClassifierSettings pair_of(const models::ClassifierSettings& part, double alpha,
                                   models::Average average = models::Average::logits) {
  return models::dual_of("pair",
                         {.standard = part, .robust = part, .alpha = alpha, .average = average});
}

void copy_into(models::Classifier& to, models::Classifier& from) {
  SafeTensors file;
  models::store(from, "", file);
  models::restore(to, "", file, "copy");
}

TrainSettings short_attack() {
  TrainSettings settings;
  settings.steps = 1;
  settings.weight_decay = 0;
  return settings;
}

// A dual learner and its two models once more, each trained by itself.
struct Apart {
  Learner dual, standard, robust;
  data::Batch batch;
  explicit Apart(double alpha, models::Average average = models::Average::logits,
                 const models::ClassifierSettings& part = tiny_networks(2))
      : dual(pair_of(part, alpha, average), 2),
        standard(part, 2),
        robust(part, 2),
        batch(batch_for(part, 8)) {
    stir(dual.model);
    copy_into(standard.model, dual.model.standard());
    copy_into(robust.model, dual.model.robust());
  }
  bool standard_is_like(Learner& other) {
    return fingerprint(dual.model.standard()) == fingerprint(other.model);
  }
};

}  // namespace

TEST_CASE("jtdmoe: the groups of a dual model are those of its two", "[train][jtdmoe]") {
  Learner fixed(pair_of(tiny_networks(2), 0.7), 2), trained(pair_of(tiny_moe(2), 0.7), 2);
  CHECK(fixed.group_names() == std::vector<std::string>{"standard.experts", "robust.experts"});
  CHECK(trained.group_names() == std::vector<std::string>{"standard.experts", "standard.router",
                                                          "robust.experts", "robust.router"});
  int64_t numbers = 0;
  for (FlatParameters* group : trained.groups()) numbers += group->values().size();
  CHECK(numbers == count_parameters(trained.model));
  Learner plain(tiny_moe(2), 2);
  CHECK(plain.group_names() == std::vector<std::string>{"experts", "router"});
}

// The robust model ends as RT-ER alone leaves it, statistics of its norms included: nothing of the
// standard one's step reaches it, and the other way round.
TEST_CASE("jtdmoe: the robust model takes a step of RT-ER", "[train][jtdmoe]") {
  for (const models::ClassifierSettings& part : {tiny_networks(2), tiny_moe(2)}) {
    TrainSettings settings = short_attack();
    settings.kl_experts = part.experts_are == models::Experts::networks ? "all" : "second";
    const StepSettings step = step_of(settings, 0.1, 0.05);
    Apart apart(0.7, models::Average::logits, part);
    const Snapshot before(apart.dual.model.standard());
    read(jtdmoe_step(apart.dual, apart.batch, step));
    read(rt_er_step(apart.robust, apart.batch, step));
    CHECK(fingerprint(apart.dual.model.robust()) == fingerprint(apart.robust.model));
    CHECK(before.moved(Snapshot(apart.dual.model.standard())).size() > 20);
  }
}

TEST_CASE(
    "jtdmoe: the standard model minimises the loss of the mixture with the updated robust one",
    "[train][jtdmoe]") {
  for (models::Average average : {models::Average::logits, models::Average::probabilities}) {
    const TrainSettings settings = short_attack();
    const StepSettings step = step_of(settings, 0.1, 0.1);
    Apart apart(0.7, average);
    const StepStatistics seen = read(jtdmoe_step(apart.dual, apart.batch, step));
    const Rows s(apart.standard.model.forward(apart.batch.images, Mode::train).logits),
        r(apart.dual.model.robust().forward(apart.batch.images, Mode::eval).logits);
    double loss = 0;
    for (int64_t i = 0; i < apart.batch.size(); ++i) {
      const int32_t y = apart.batch.labels.data_as<int32_t>()[i];
      std::vector<double> z;
      for (int64_t c = 0; c < s.classes; ++c) z.push_back(0.3 * s.at(i, c) + 0.7 * r.at(i, c));
      loss += average == models::Average::logits
                  ? Rows(Tensor::from(z, {1, s.classes})).cross_entropy(0, y)
                  : -std::log(0.3 * std::exp(s.log_softmax(i, y)) +
                              0.7 * std::exp(r.log_softmax(i, y)));
    }
    CHECK(seen.loss == Approx(loss).epsilon(1e-4));
    CHECK(seen.images == apart.batch.size());
    CHECK(seen.clean_seen == apart.batch.size());
  }
}

TEST_CASE("jtdmoe: unconditioned, and at alpha 0, the standard model trains by itself",
          "[train][jtdmoe]") {
  TrainSettings settings = short_attack();
  const auto is_natural = [&](double alpha, bool conditioned, models::Average average) {
    settings.conditioned = conditioned;
    const StepSettings step = step_of(settings, 0.1, 0.1);
    Apart apart(alpha, average);
    read(jtdmoe_step(apart.dual, apart.batch, step));
    read(natural_step(apart.standard, apart.batch, step));
    return apart.standard_is_like(apart.standard);
  };
  CHECK(is_natural(0.7, false, models::Average::logits));
  CHECK(is_natural(0, true, models::Average::logits));
  CHECK_FALSE(is_natural(0.7, true, models::Average::logits));
  CHECK(is_natural(0.7, false, models::Average::probabilities));
  CHECK_FALSE(is_natural(0.7, true, models::Average::probabilities));
}

TEST_CASE("jtdmoe: at alpha 1 the standard model has no gradient", "[train][jtdmoe]") {
  const TrainSettings settings = short_attack();
  for (models::Average average : {models::Average::logits, models::Average::probabilities}) {
    Apart apart(1, average);
    const Snapshot before(apart.dual.model.standard());
    read(jtdmoe_step(apart.dual, apart.batch, step_of(settings, 0.1, 0.1)));
    CHECK(before.moved(Snapshot(apart.dual.model.standard())).empty());
  }
}

TEST_CASE("jtdmoe: a dual model at alpha 0 and 1 is one of its two", "[train][jtdmoe]") {
  for (models::Average average : {models::Average::logits, models::Average::probabilities})
    for (double alpha : {0.0, 1.0}) {
      Apart apart(alpha, average);
      Learner& part = alpha == 0 ? apart.standard : apart.robust;
      const Rows dual(apart.dual.model.forward(apart.batch.images, Mode::eval).logits),
          alone(part.model.forward(apart.batch.images, Mode::eval).logits);
      for (int64_t i = 0; i < apart.batch.size(); ++i)
        for (int64_t c = 0; c < dual.classes; ++c)
          CHECK(dual.log_softmax(i, c) == Approx(alone.log_softmax(i, c)).margin(1e-5));
    }
}

TEST_CASE("jtdmoe: the loss falls on a batch that is seen again and again", "[train][jtdmoe]") {
  TrainSettings settings = short_attack();
  settings.eps = 0.02;
  settings.beta = 1;
  models::ClassifierSettings part = tiny_networks(2);
  part.init = models::Init::uniform;
  Learner learner(pair_of(part, 0.5), 2);
  const data::Batch batch = batch_for(part, 8);
  const auto loss = [&] {
    return read(jtdmoe_step(learner, batch, step_of(settings, 0.05, 0.05))).loss;
  };
  const double first = loss();
  double last = 0;
  for (int i = 0; i < 15; ++i) last = loss();
  CHECK(last < 0.8 * first);
}

TEST_CASE("jtdmoe: a model that is not dual is refused", "[train][jtdmoe]") {
  Learner learner(tiny_networks(2), 2);
  const TrainSettings settings;
  CHECK_THROWS_WITH(jtdmoe_step(learner, batch_for(tiny_networks(2)), step_of(settings, 0.1, 0.1)),
                    Catch::Contains("dual"));
}

}  // namespace moat::tests
