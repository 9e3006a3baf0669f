#pragma once

#include <string>
#include <vector>

#include "train/config.h"

namespace moat::train {

// The presets of one data set, in the order they are listed to people. A name says what it is:
// <data>[-<net>]-<method>[-short], where -short is the same run in less (train/README.md).
struct PresetFamily {
  std::string title;
  std::vector<PresetRow> rows;
};
const std::vector<PresetFamily>& preset_families();

}  // namespace moat::train
