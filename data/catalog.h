#pragma once

#include <filesystem>
#include <span>

#include "data/image_set.h"
#include "data/synthetic.h"

namespace moat::data {

struct DataConfig {
  std::string name = "digits";
  std::filesystem::path path = {};  // the folder of cifar10, cifar100 and imagefolder
  int resize = 0;                   // imagefolder: side in pixels; 0: as stored
  int64_t limit = 0;                // the first rows of a split only; 0: all
  Synthetic synthetic = {};         // of the synthetic data set
};

struct CatalogEntry {
  const char* name;
  const char* description;
  bool needs_path;
  ImageSet (*load)(const DataConfig&, Split);
};
std::span<const CatalogEntry> catalog();

// The split, checked by validate(). Throws UsageError on an unknown name and on a setting the data
// set does not have.
ImageSet load(const DataConfig& config, Split split);

}  // namespace moat::data
