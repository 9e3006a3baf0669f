#pragma once

#include <string>
#include <vector>

#include "models/classifier.h"

namespace moat::models {

// A name people use and the settings it stands for; image size, classes and normaliser are the
// data's and filled in by the caller.
struct ZooRow {
  ClassifierSettings settings;
  std::string about;  // one line for people
};

const std::vector<ZooRow>& zoo();
const ZooRow& find_model(const std::string& name);  // throws UsageError with the known names

}  // namespace moat::models
