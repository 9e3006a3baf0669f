#pragma once

#include <filesystem>
#include <span>

#include "data/image_files.h"
#include "data/source.h"
#include "data/synthetic.h"

namespace moat::data {

struct DataConfig {
  std::string name = "digits";
  std::filesystem::path path = {};  // of the files: see CatalogEntry
  Resizing resize = {};             // of sets of image files
  int crop = 0;                     // side of what a model sees (cropped()); 0: everything
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

// The split before its pixels are read and before it is cropped. Throws UsageError on an unknown
// name and on a setting the data set does not have.
Source open(const DataConfig& config, Split split);

// The split, cropped and checked by validate(). Throws as open() and cropped() do.
ImageSet load(const DataConfig& config, Split split);

}  // namespace moat::data
