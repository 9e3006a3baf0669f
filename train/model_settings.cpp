#include "train/model_settings.h"

#include <charconv>

#include "models/zoo.h"
#include "train/token_room.h"

namespace moat::train {

using engine::text;
using engine::UsageError;
using models::ClassifierSettings;

namespace {

void must(bool holds, const std::string& message) {
  if (!holds) throw UsageError(message);
}

// n of "<prefix><n>"; 0 for another text.
int number_behind(const std::string& value, const std::string& prefix) {
  int n = 0;
  if (!value.starts_with(prefix)) return 0;
  const char* end = value.data() + value.size();
  const auto read = std::from_chars(value.data() + prefix.size(), end, n);
  return read.ec == std::errc{} && read.ptr == end ? n : 0;
}

// V-MoE's placements: every n-th block, or the last n of every second one.
std::vector<int> blocks_of(const std::string& value, int depth) {
  const int every = number_behind(value, "every-"), last = number_behind(value, "last-");
  std::vector<int> blocks;
  for (int b = every > 0 ? every - 1 : 1; b<depth; b += every> 0 ? every : 2) blocks.push_back(b);
  must((every > 0 || last > 0) && !blocks.empty() && last <= static_cast<int>(blocks.size()),
       text("model.moe_blocks must be every-<n> or last-<n> with blocks to take among ", depth,
            ", got '", value, "'"));
  if (last > 0) blocks.erase(blocks.begin(), blocks.end() - last);
  return blocks;
}

void must_be_active(int active, int experts) {
  must(active <= experts,
       text("model.active must be at most the number of experts, ", experts, ", got ", active));
}

void set_token_experts(const ModelSettings& model, ClassifierSettings& s) {
  models::TokenExperts& moe = s.transformer.moe;
  if (!model.moe_blocks.empty()) moe.blocks = blocks_of(model.moe_blocks, s.blocks.front());
  if (model.experts > 0) moe.experts = model.experts;
  if (model.active > 0) moe.active = model.active;
  must_be_active(moe.active, moe.experts);
  set_room(model, moe);
  moe.noise = model.noise;
  moe.importance = model.importance;
  moe.load = model.load;
}

}  // namespace

ClassifierSettings zoo_settings(const ModelSettings& model) {
  ClassifierSettings s = models::find_model(model.name).settings;
  const bool has_router = s.experts > 1, has_token_gates = !s.transformer.moe.blocks.empty();
  must(has_router || has_token_gates || (model.experts <= 1 && model.active <= 1),
       "model.experts needs a mixture of experts, and " + s.name +
           " is dense; take the moe form of the model (moat models lists them)");
  must(has_router || model.router == "zoo",
       "model.router needs a model with a router of images, and " + s.name +
           " has none; moat models lists them");
  must(has_router || (model.gate == "zoo" && model.score_norm == "zoo"),
       "model.gate and model.score_norm need a model with a router of images, and " + s.name +
           " has none; leave them at zoo");
  must(model.router_pool == 0 || !s.router.blocks.empty(),
       "model.router_pool needs a model whose router is a net, and that of " + s.name +
           (has_router ? " is one linear map" : " is none") + "; leave it at 0");
  const ModelSettings usual;
  must(
      has_token_gates || (model.moe_blocks.empty() && model.capacity == 0 && model.group == 0 &&
                          model.priority == usual.priority && model.noise == usual.noise &&
                          model.importance == usual.importance && model.load == usual.load),
      "model.moe_blocks, capacity, group, priority, noise, importance and load need a v-moe, and " +
          s.name + " is none; moat models lists them");
  must(model.kept == 1 || !(has_router || s.family == models::Family::vit),
       "model.kept makes a sparse convolutional net, and " + s.name +
           " is none; take a dense form or model.kept=1");
  if (model.ratio > 0) s.ratio = model.ratio;
  s.kept = model.kept;
  if (has_token_gates) set_token_experts(model, s);
  if (!has_router) return s;
  if (model.experts > 0) s.experts = model.experts;
  if (model.active > 0) s.active = model.active;
  must_be_active(s.active, s.experts);
  if (model.router_pool > 0) s.router.pool = model.router_pool;
  if (model.router != "zoo") s.router.trained = model.router == "trained";
  must(model.gate == "zoo" || s.active == 1,
       text("model.gate is of a hard gate, and here ", s.active,
            " experts are active for an image; leave it at zoo"));
  if (model.gate != "zoo")
    s.gate = model.gate == "softmax" ? models::GateForm::softmax : models::GateForm::raw;
  if (model.score_norm != "zoo") s.router.score_norm = model.score_norm == "true";
  return s;
}

ClassifierSettings dual_settings(const ModelSettings& model, const ClassifierSettings& part) {
  return models::dual_of("dual-" + part.name,
                         {.standard = part,
                          .robust = part,
                          .alpha = model.alpha,
                          .average = model.average == "logits" ? models::Average::logits
                                                               : models::Average::probabilities});
}

}  // namespace moat::train
