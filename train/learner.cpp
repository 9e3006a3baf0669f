#include "train/learner.h"

namespace moat::train {

Learner::Learner(const models::ClassifierSettings& settings, uint64_t seed, engine::Device device)
    : model(settings, seed, device),
      experts(model.expert_parameters()),
      forward([this](const engine::Tensor& images, engine::Mode mode, models::GateGradient gate,
                     const models::GateSeed* noise) {
        return model.forward(images, mode, gate, noise);
      }) {
  if (!model.router_parameters().empty()) router.emplace(model.router_parameters());
}

std::vector<engine::FlatParameters*> Learner::groups() {
  std::vector<engine::FlatParameters*> out{&experts};
  if (router) out.push_back(&*router);
  return out;
}

void Learner::prepare(const TrainSettings& settings) {
  if (settings.optimizer == "adamw")
    for (engine::FlatParameters* group : groups()) group->add_second_moment();
  if (settings.ema > 0) average.emplace(model, groups(), settings.ema);
}

void StepStatistics::add(const StepStatistics& other) {
  loss += other.loss;
  images += other.images;
  clean_correct += other.clean_correct;
  robust_correct += other.robust_correct;
  clean_seen += other.clean_seen;
  usage.resize(std::max(usage.size(), other.usage.size()));
  for (size_t e = 0; e < other.usage.size(); ++e) usage[e] += other.usage[e];
}

}  // namespace moat::train
