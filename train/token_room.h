#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "models/settings.h"
#include "train/config.h"

namespace moat::train {

// Experts of tokens may have room for some choices of a group of images alone (V-MoE's capacity).
// model.capacity, model.group and model.priority hold no weights: a trained model can be run with
// others.

void set_room(const ModelSettings& from, models::TokenExperts& to);

// The settings of a trained model with assignments like "model.capacity=1.5" laid over its token
// experts, of a dual model over those of both parts. Throws UsageError for another setting, and for
// a model without token experts.
models::ClassifierSettings with_room(const models::ClassifierSettings& settings,
                                     const std::vector<std::string>& assignments);

// Why an image's result depends on other images, in a line; empty when it does not.
std::string company_warning(const models::ClassifierSettings& settings);

// Throws it as a UsageError: a model whose images share room has no result of an attack that would
// be an image's own, because fooled images leave the batch.
void require_no_company(const models::ClassifierSettings& settings);

// What a mixture is, for a document: {"blocks", "experts", "k", "capacity", "group", "priority"}
// where tokens are routed, {"experts", "gate"} where images are, {"standard", "robust"} of a dual
// model, null of a dense one.
nlohmann::ordered_json moe_json(const models::ClassifierSettings& settings);

}  // namespace moat::train
