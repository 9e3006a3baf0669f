#pragma once

#include <filesystem>
#include <span>

#include "data/source.h"
#include "data/synthetic.h"

namespace moat::data {

struct DataConfig {
  std::string name = "digits";
  std::filesystem::path path = {};  // of the files: see CatalogEntry
  int resize = 0;                   // of sets of image files: side in pixels; 0: as stored
  int64_t limit = 0;                // the first rows of a split only; 0: all
  Synthetic synthetic = {};         // of the synthetic data set
};

struct CatalogEntry {
  const char* name;
  const char* description;
  const char* path;  // what data.path must name; nullptr: there is none
  bool may_resize;
  Source (*open)(const DataConfig&, Split);
};
std::span<const CatalogEntry> catalog();

// The split before its pixels are read. Throws UsageError on an unknown name and on a setting the
// data set does not have.
Source open(const DataConfig& config, Split split);

// The split, checked by validate(). Throws as open() does.
ImageSet load(const DataConfig& config, Split split);

}  // namespace moat::data
