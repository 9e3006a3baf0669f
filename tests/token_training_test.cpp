#include <catch2/catch.hpp>

#include "tests/learner_fixture.h"
#include "train/methods.h"
#include "train/training_attack.h"

// Adversarial training of V-MoE (Puigcerver et al. 2022): every batch becomes its PGD version, with
// the auxiliary losses of the gates in the attack or out of it.

namespace moat::tests {

using namespace engine;
using namespace train;

TEST_CASE("v-moe: auxiliary losses are in the training attack or out of it", "[train][v-moe]") {
  models::ClassifierSettings s = small_family("v-moe");
  s.transformer.moe.importance = 3;
  Learner learner(s, 2);
  const data::Batch batch = batch_for(s, 8);
  TrainSettings settings;
  settings.steps = 4;
  const StepSettings step = step_of(settings, 0.1, 0.1);
  const auto attacked = [&](double auxiliary) {
    settings.attack_auxiliary = auxiliary;
    return training_attack(learner, batch, attacks::Loss::cross_entropy, step);
  };
  const uint64_t before = fingerprint(learner.model);
  const Tensor without = attacked(0), with = attacked(1);
  CHECK(fingerprint(learner.model) == before);
  const attacks::Objective plain{.gate = attacks::Gate::blocked},
      both{.gate = attacks::Gate::blocked, .auxiliary = 1};
  const auto direct = [&](const attacks::Objective& objective) {
    return training_pgd(attack_model(learner.model), victims_of(batch), objective, step, {});
  };
  CHECK(without.to_vector<float>() == direct(plain).to_vector<float>());
  CHECK(with.to_vector<float>() == direct(both).to_vector<float>());
  // Either attack is the better one at what it climbs.
  const auto mean_of = [&](const Tensor& images, bool auxiliary) {
    return auxiliary ? mean(learner.model.auxiliary_losses(images)).item()
                     : mean(attacks::loss_of(attacks::Loss::cross_entropy,
                                             learner.model.forward(images, Mode::eval).logits,
                                             victims_of(batch)))
                           .item();
  };
  CHECK(mean_of(with, true) > mean_of(without, true));
  CHECK(mean_of(without, false) > mean_of(batch.images, false));
  CHECK(mean_of(without, false) >= mean_of(with, false));
}

TEST_CASE("v-moe: adversarial training moves its gates and experts, and its loss falls",
          "[train][v-moe]") {
  for (double auxiliary : {0.0, 1.0}) {
    const models::ClassifierSettings s = small_family("v-moe");
    Learner learner(s, 2);
    TrainSettings settings;
    settings.steps = 2;
    settings.eps = 0.02;
    settings.attack_auxiliary = auxiliary;
    const data::Batch batch = batch_for(s);
    const Snapshot before(learner.model);
    const auto loss = [&] {
      return read(at_step(learner, batch, step_of(settings, 0.05, 0.05))).loss;
    };
    const double first = loss();
    // The bias of the keys moves every score of a softmax alike.
    CHECK(before.moved(Snapshot(learner.model)).size() + s.blocks.size() + 2 >=
          before.names.size());
    double last = 0;
    for (int i = 0; i < 60; ++i) last = loss();
    CHECK(last < 0.8 * first);
  }
}

}  // namespace moat::tests
