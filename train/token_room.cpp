#include "train/token_room.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "engine/error.h"
#include "engine/names.h"

namespace moat::train {

using engine::text;
using engine::UsageError;
using models::ClassifierSettings;
using models::TokenExperts;
using nlohmann::ordered_json;

namespace {

const std::vector<std::string> kRoom{"model.capacity", "model.group", "model.priority"};

const char* name_of(models::Priority priority) {
  return priority == models::Priority::order ? "order" : "best-gate";
}

bool has_token_experts(const ClassifierSettings& s) {
  return s.dual ? has_token_experts(s.dual->standard) || has_token_experts(s.dual->robust)
                : !s.transformer.moe.blocks.empty();
}

// Of an expert for every token of its group, whatever they choose.
bool has_room_for_all(const TokenExperts& moe) {
  return moe.capacity == 0 || moe.capacity * moe.active >= moe.experts;
}

}  // namespace

void set_room(const ModelSettings& from, TokenExperts& to) {
  to.capacity = from.capacity;
  to.group = from.group;
  to.priority = from.priority == name_of(models::Priority::order) ? models::Priority::order
                                                                  : models::Priority::best_gate;
}

ClassifierSettings with_room(const ClassifierSettings& settings,
                             const std::vector<std::string>& assignments) {
  ClassifierSettings s = settings;
  for (const std::string& assignment : assignments) {
    if (std::ranges::find(kRoom, assignment.substr(0, assignment.find('='))) == kRoom.end())
      throw UsageError(text("of a trained model only ", engine::listed(kRoom),
                            " can be set, which hold no weights; got ", assignment));
    if (!has_token_experts(s))
      throw UsageError(text(assignment, " needs a v-moe, and ", s.name,
                            " has no experts of tokens; leave it out"));
  }
  if (s.dual) {
    models::DualSettings parts = *s.dual;
    for (ClassifierSettings* part : {&parts.standard, &parts.robust})
      if (has_token_experts(*part)) *part = with_room(*part, assignments);
    s.dual = std::make_shared<const models::DualSettings>(parts);
    return s;
  }
  TokenExperts& moe = s.transformer.moe;
  Config config;
  config.model.capacity = moe.capacity;
  config.model.group = moe.group;
  config.model.priority = name_of(moe.priority);
  for (const std::string& assignment : assignments) config = override_with(config, assignment);
  set_room(config.model, moe);
  return s;
}

std::string company_warning(const ClassifierSettings& settings) {
  if (settings.dual) {
    const std::string warning = company_warning(settings.dual->standard);
    return warning.empty() ? company_warning(settings.dual->robust) : warning;
  }
  const TokenExperts& moe = settings.transformer.moe;
  if (moe.blocks.empty() || moe.group == 1 || has_room_for_all(moe)) return {};
  return text("the experts of '", settings.name, "' have room for ", moe.capacity,
              " times an even share, so that an image's result depends on the ",
              moe.group == 0 ? std::string("other images of its batch")
                             : text("other ", moe.group - 1, " images of its group"),
              "; model.group=1 or model.capacity=0 ends that");
}

void require_no_company(const ClassifierSettings& settings) {
  const std::string warning = company_warning(settings);
  if (!warning.empty())
    throw UsageError(
        "what is evaluated or attacked must give each image a result of its own, and " + warning);
}

ordered_json moe_json(const ClassifierSettings& s) {
  if (s.dual) {
    ordered_json standard = moe_json(s.dual->standard), robust = moe_json(s.dual->robust);
    if (standard.is_null() && robust.is_null()) return nullptr;
    return {{"standard", std::move(standard)}, {"robust", std::move(robust)}};
  }
  if (s.experts > 1)
    return {{"experts", s.experts},
            {"gate", s.gate == models::GateForm::raw ? "straight-through" : "softmax"}};
  const TokenExperts& moe = s.transformer.moe;
  if (moe.blocks.empty()) return nullptr;
  return {{"blocks", moe.blocks}, {"experts", moe.experts},
          {"k", moe.active},      {"capacity", moe.capacity},
          {"group", moe.group},   {"priority", name_of(moe.priority)}};
}

}  // namespace moat::train
