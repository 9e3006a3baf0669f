#include "train/learner.h"

namespace moat::train {

namespace {
Learner::Forward forward_of(const models::Classifier& model) {
  return [&model](const auto&... args) { return model.forward(args...); };
}
}  // namespace

Learner::Learner(const models::ClassifierSettings& settings, uint64_t seed, engine::Device device)
    : own_(std::make_unique<models::Classifier>(settings, seed, device)),
      model(*own_),
      forward(forward_of(model)) {
  make_groups();
}

Learner::Learner(models::Classifier& part) : model(part), forward(forward_of(part)) {
  make_groups();
}

void Learner::make_groups() {
  if (model.settings().dual) {
    standard = std::make_unique<Learner>(model.standard());
    robust = std::make_unique<Learner>(model.robust());
    return;
  }
  experts.emplace(model.expert_parameters());
  if (!model.router_parameters().empty()) router.emplace(model.router_parameters());
}

std::vector<engine::FlatParameters*> Learner::groups() {
  std::vector<engine::FlatParameters*> out;
  for (auto* own : {&experts, &router})
    if (*own) out.push_back(&**own);
  for (Learner* part : {standard.get(), robust.get()})
    if (part)
      for (engine::FlatParameters* group : part->groups()) out.push_back(group);
  return out;
}

std::vector<std::string> Learner::group_names() const {
  std::vector<std::string> out;
  if (experts) out.emplace_back("experts");
  if (router) out.emplace_back("router");
  if (standard)
    for (const std::string& name : standard->group_names()) out.push_back("standard." + name);
  if (robust)
    for (const std::string& name : robust->group_names()) out.push_back("robust." + name);
  return out;
}

std::vector<double> Learner::learning_rates(const StepSettings& step) const {
  std::vector<double> out;
  if (experts) out.push_back(step.learning_rate);
  if (router) out.push_back(step.router_learning_rate);
  for (const Learner* part : {standard.get(), robust.get()})
    if (part)
      for (double rate : part->learning_rates(step)) out.push_back(rate);
  return out;
}

void Learner::freeze(models::Part part) {
  model.freeze(part);
  (part == models::Part::router ? router : experts).reset();
}

void Learner::prepare(const Config& config) {
  const TrainSettings& settings = config.train;
  if (settings.update == "experts") freeze(models::Part::router);
  if (settings.update == "router") freeze(models::Part::experts);
  if (config.run.precision == "bf16") model.set_activations(engine::Dtype::bf16);
  if (settings.optimizer == "adamw")
    for (engine::FlatParameters* group : groups()) group->add_second_moment();
  if (settings.decay == "kernels")
    for (engine::FlatParameters* group : groups()) group->decay_kernels_alone();
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
