#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <string>

#include "engine/io/safetensors.h"
#include "models/classifier.h"

namespace moat::models {

// A model as a file: safetensors with PyTorch's names and layouts (filters OIHW, float32) and the
// architecture as JSON in the metadata key "architecture", so that plain PyTorch loads it and moat
// rebuilds it from the file alone.

// Adds the model's tensors under `prefix` + name.
void store(Classifier& model, const std::string& prefix, engine::SafeTensors& to);
// Copies tensors into the model; throws a one-line Error naming `origin` when one is missing, has
// another shape or dtype, a mean of the normaliser is not finite or a deviation not above 0, or
// (with `prefix` empty) when the file holds a name the model lacks.
void restore(Classifier& model, const std::string& prefix, const engine::SafeTensors& from,
             const std::string& origin);

std::string architecture_json(const ClassifierSettings& settings);
// Throws a one-line Error naming `origin` for anything that is not a buildable architecture.
ClassifierSettings parse_architecture(const std::string& json, const std::string& origin);

using Metadata = std::map<std::string, std::string>;
engine::SafeTensors to_file(Classifier& model, const Metadata& metadata);

struct LoadedModel {
  Classifier model;
  Metadata metadata;
};
// The model that a file describes. Throws a one-line Error naming `origin` when it is not whole.
LoadedModel from_file(const engine::SafeTensors& file, const std::string& origin,
                      engine::Device device = {});
// `adapt` may change the settings that the file holds, as far as its tensors still fit them.
using Adapt = std::function<void(ClassifierSettings&)>;
LoadedModel load_model(const std::filesystem::path& file, engine::Device device = {},
                       const Adapt& adapt = {});

}  // namespace moat::models
