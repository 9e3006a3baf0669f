#include <catch2/catch.hpp>

#include "data/digits.h"
#include "models/checkpoint.h"
#include "tests/temporary_folder.h"
#include "train/evaluate.h"
#include "train/objective.h"
#include "train/trainer.h"

namespace moat::tests {

using namespace train;

namespace {

// Trains and gives back the last weights.
models::Classifier trained(const Config& base, uint64_t seed) {
  const TemporaryFolder folder;
  Config config = base;
  config.run.seed = seed;
  config.run.dir = (folder.path() / "run").string();
  config.eval.validation_every = 1000;
  train::train(config, Resume::never, {});
  return models::load_model(folder.path() / "run/checkpoints/last.safetensors").model;
}

Config moe_on_digits(const std::string& method, int epochs) {
  Config config;
  config.model.name = "digits-moe-resnet";
  config.train.method = method;
  config.train.epochs = epochs;
  config.train.steps = 3;
  return config;
}

}  // namespace

// The straight-through gate masks gradients: trained and attacked through it on the raw scores, a
// model looks far more robust than it is.
TEST_CASE("routing: blocking the gate beats the open attack on a straight-through model",
          "[.long][routing]") {
  Config config = moe_on_digits("at", 6);
  config.model.gate = "straight-through";
  config.model.score_norm = "false";
  config.train.gate = "through";
  const data::ImageSet test = data::digits(data::Split::test);
  for (uint64_t seed : {0, 1, 2}) {
    models::Classifier model = trained(config, seed);
    const Evaluation e = evaluate(
        model, test, attacks::find_protocol("pgd-10@1", {.eps = 0.1}, 0, attack_model(model)));
    int64_t through = 0, blocked = 0;
    for (const attacks::SampleResult& s : e.samples) {
      through += !s.resisted.empty() && s.resisted[0];
      blocked += !s.resisted.empty() && s.resisted[1];
    }
    INFO("seed " << seed << ": clean " << e.clean_correct(test) << ", through " << through
                 << ", blocked " << blocked << ", both " << e.robust_correct(test));
    CHECK(double(blocked) < 0.8 * double(through));
    CHECK(e.robust_correct(test) <= std::min(blocked, through));
  }
}

TEST_CASE("routing: the default router keeps every expert in use", "[.long][routing]") {
  const data::Batch test = data::batch_of(data::digits(data::Split::test));
  for (int experts : {2, 4})
    for (uint64_t seed : {0, 1, 2}) {
      Config config = moe_on_digits("advmoe", 4);
      config.model.experts = experts;
      const models::Classifier model = trained(config, seed);
      const auto routes =
          model.forward(test.images, engine::Mode::eval).experts.to_vector<int32_t>();
      for (int e = 0; e < experts; ++e) {
        const auto served = std::count(routes.begin(), routes.end(), e);
        INFO(experts << " experts, seed " << seed << ": expert " << e << " serves " << served);
        CHECK(double(served) >= 0.05 * double(routes.size()));
      }
    }
}

}  // namespace moat::tests
