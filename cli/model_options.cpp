#include "cli/model_options.h"

#include "engine/error.h"
#include "models/zoo.h"
#include "train/model_settings.h"

namespace moat::cli {

using engine::text;
using engine::UsageError;

namespace {
constexpr int kMaxSide = 4096;
}

void add_image_option(CLI::App& command, ModelOptions& options) {
  command.add_option("--image", options.image, "height,width; as the model's row has them")
      ->delimiter(',')
      ->expected(2);
}

models::ClassifierSettings resolve(const ModelOptions& options) {
  train::Config config;
  config.model.name = models::find_model(options.name).settings.name;
  for (const std::string& setting : options.settings) {
    if (!setting.starts_with("model.") || setting.starts_with("model.name"))
      throw UsageError(text("only model.key=value makes sense here, got '", setting,
                            "'; see moat train --settings"));
    config = train::override_with(config, setting);
  }
  if (config.model.normalize != "none")
    throw UsageError("model.normalize needs a data set; give --mean and --std");
  train::validate(config);
  models::ClassifierSettings model = train::zoo_settings(config.model);
  if (options.image.empty()) return model;
  for (int side : options.image)
    if (side < 1 || side > kMaxSide)
      throw UsageError(text("--image must be two sides from 1 to ", kMaxSide, ", got ", side));
  model.height = options.image[0];
  model.width = options.image[1];
  return model;
}

}  // namespace moat::cli
