#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <utility>
#include <vector>

#include "models/classifier.h"

namespace moat::cli {

// What there is to say about a model without its training.
struct ModelFacts {
  models::ClassifierSettings settings;
  std::vector<std::pair<std::string, int64_t>> parts = {};  // parameters by what they belong to
  int64_t parameters = 0, router_parameters = 0;
  int experts = 1;  // for an image, or for a token
  models::Classifier::Cost cost;
  int64_t dense = 0;  // multiply-accumulates of the dense net of full width
  int router_pool = 1;
};
ModelFacts facts_of(models::Classifier& model);
nlohmann::ordered_json json_of(const ModelFacts& facts);

// The most bytes that tensors took beyond the weights, measured with this many images.
struct ActivationMemory {
  size_t forward = 0;   // in evaluation mode
  size_t training = 0;  // in training mode, with the gradients of all parameters
};
ActivationMemory activation_memory(models::Classifier& model, int batch);

// Bytes of an image that a forward pass in training mode keeps for the backward pass: what every
// image of a batch adds at least.
double kept_for_backward(models::Classifier& model);

}  // namespace moat::cli
