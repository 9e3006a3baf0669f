#pragma once

#include <string>
#include <vector>

#include "cli/commands.h"
#include "models/settings.h"

namespace moat::cli {

// A model of the zoo that no data set stands behind.
struct ModelOptions {
  std::string name;
  std::vector<std::string> settings;  // section.key=value of the section model
  std::vector<int> image;             // height, width; empty: as the zoo row has them
};
void add_image_option(CLI::App& command, ModelOptions& options);
models::ClassifierSettings resolve(const ModelOptions& options);  // throws UsageError

}  // namespace moat::cli
