#include "bench/random_learner.h"

#include <utility>

#include "data/catalog.h"
#include "train/trainer.h"

namespace moat::bench {

namespace {

train::Config configured(const std::string& preset, const std::string& model,
                         const CaseOptions& options) {
  train::Config config = train::preset(preset);
  config.model.name = model;
  config.train.steps = options.attack_steps;
  config.run.seed = options.seed;
  return config;
}

}  // namespace

RandomLearner::RandomLearner(const std::string& preset, const std::string& model,
                             data::ImageSet images, const CaseOptions& options)
    : config(configured(preset, model, options)),
      set(std::move(images)),
      learner(train::classifier_settings(config, set), options.seed, options.device),
      batch(data::batch_of(set).to(options.device)) {
  learner.model.set_activations(engine::activation_dtype(options.precision));
}

train::StepSettings RandomLearner::step() const {
  return {.train = config.train,
          .seed = config.run.seed,
          .learning_rate = 0.01,
          .router_learning_rate = 0.01};
}

double RandomLearner::macs(const Passes& passes) const {
  const models::Classifier::Cost cost = learner.model.cost();
  return static_cast<double>(set.size()) * (passes.net * static_cast<double>(cost.path) +
                                            passes.router * static_cast<double>(cost.router));
}

std::shared_ptr<RandomLearner> on_random_images(const std::string& preset, const std::string& model,
                                                const CaseOptions& options) {
  return std::make_shared<RandomLearner>(
      preset, model,
      data::synthetic(
          {.rows = options.batch, .height = 32, .width = 32, .channels = 3, .classes = 10}),
      options);
}

}  // namespace moat::bench
