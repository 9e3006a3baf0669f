#include "cli/model_facts.h"

#include <nlohmann/json.hpp>

#include "engine/memory.h"
#include "engine/ops/reduce.h"
#include "engine/tape.h"

namespace moat::cli {

using namespace engine;

namespace {

// "layer1", "router", "experts.0", "blocks.11": one more part where the first says little.
std::string part_of(const std::string& name) {
  const size_t first = name.find('.');
  const std::string head = name.substr(0, first);
  const bool says_little = head == "features" || head == "experts" || head == "blocks" ||
                           head == "standard" || head == "robust" || head == "classifier";
  return says_little ? name.substr(0, name.find('.', first + 1)) : head;
}

}  // namespace

ModelFacts facts_of(models::Classifier& model) {
  ModelFacts facts{.settings = model.settings(), .cost = model.cost()};
  for (const NamedTensor& t : parameters_of(model)) {
    const std::string part = part_of(t.name);
    if (facts.parts.empty() || facts.parts.back().first != part) facts.parts.emplace_back(part, 0);
    facts.parts.back().second += t.value->size();
    facts.parameters += t.value->size();
  }
  for (const NamedTensor& t : model.router_parameters()) facts.router_parameters += t.value->size();
  const models::TokenExperts& tokens = facts.settings.transformer.moe;
  facts.experts = tokens.blocks.empty() ? model.routes() : tokens.experts;
  const InitStream unwritten{.fill = InitStream::Fill::none};
  facts.dense = models::Classifier(models::dense_twin(facts.settings), unwritten).cost().path;
  facts.router_pool = model.router_pool();
  return facts;
}

nlohmann::ordered_json json_of(const ModelFacts& facts) {
  const models::ClassifierSettings& s = facts.settings;
  nlohmann::ordered_json parts;
  for (const auto& [part, n] : facts.parts) parts[part] = n;
  return {{"name", s.name},
          {"experts", facts.experts},
          {"ratio", s.ratio},
          {"input", {s.channels, s.height, s.width}},
          {"classes", s.classes},
          {"parameters",
           {{"net", facts.parameters - facts.router_parameters},
            {"router", facts.router_parameters},
            {"total", facts.parameters},
            {"by_part", parts}}},
          {"macs",
           {{"dense", facts.dense},
            {"path", facts.cost.path},
            {"router", facts.cost.router},
            {"executed", facts.cost.executed()},
            {"all_experts", facts.cost.all_experts}}}};
}

double kept_for_backward(models::Classifier& model) {
  const models::ClassifierSettings& s = model.settings();
  const Device device = model.device();
  constexpr int kImages = 2;  // one may be too few for a batch norm
  const Tensor images =
      Tensor::full({kImages, s.height, s.width, s.channels}, 0.5, Dtype::f32, device);
  Tape tape;
  for (const NamedTensor& t : parameters_of(model)) *t.value = tape.watch(*t.value);
  const size_t before = memory_use(device).live;
  const models::Prediction p = model.forward(images, Mode::train);
  return static_cast<double>(memory_use(device).live - before) / kImages;
}

ActivationMemory activation_memory(models::Classifier& model, int batch) {
  const models::ClassifierSettings& s = model.settings();
  const Device device = model.device();
  const Tensor images =
      Tensor::full({batch, s.height, s.width, s.channels}, 0.5, Dtype::f32, device);
  ActivationMemory use;
  model.forward(images, Mode::eval);  // packs the weights
  size_t before = memory_use(device).live;
  reset_peak_memory(device);
  model.forward(images, Mode::eval);
  use.forward = memory_use(device).peak - before;
  Tape tape;
  for (const NamedTensor& t : parameters_of(model)) *t.value = tape.watch(*t.value);
  before = memory_use(device).live;
  reset_peak_memory(device);
  const models::Prediction p = model.forward(images, Mode::train);
  const Gradients gradients = tape.gradients(sum(p.logits));
  use.training = memory_use(device).peak - before;
  return use;
}

}  // namespace moat::cli
