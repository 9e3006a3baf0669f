#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "data/image_set.h"

namespace moat::data {

// How a CIFAR data set is published as binary files: records of `label_bytes` label bytes (the last
// one counts) followed by 3 x 32 x 32 pixel bytes, channel by channel.
struct CifarLayout {
  std::string name;
  std::string folder;  // the name the published archive unpacks to
  std::vector<std::string> train_files, test_files;
  std::string names_file;  // one class name per line; the names below where it is missing
  std::vector<std::string> class_names;
  int label_bytes;
  int64_t train_records, test_records;  // per file
};
const CifarLayout& cifar10_layout();
const CifarLayout& cifar100_layout();  // fine labels

// `root` holds the files, or the published folder that holds them. Validation rows are the training
// rows i with is_held_out(i); ids are row indices over the training files, or over the test file.
// Throws on a missing file, a file of the wrong length and a label outside the classes.
ImageSet cifar(const CifarLayout& layout, const std::filesystem::path& root, Split split);

}  // namespace moat::data
