#pragma once

#include <filesystem>

#include "data/image_files.h"

namespace moat::data {

struct ImageFolderOptions {
  Resizing resize = {};
  int64_t limit = 0;  // reads the first rows only; 0: all
};

// <root>/<split>/<class>/**/*.jpg, *.jpeg, *.png (in any case; links are followed; other names and
// hidden ones are not images, those of other image types are counted in `warning`) as RGB, gray
// included. Splits are train, val (valid, validation), test. Without val the training images with
// is_held_out(id) are the validation split; without test, as ImageNet is unpacked, val is the test
// split and the training images are divided as well.
//   class    number of its folder in train/ by sorted name
//   id       number of the file in the split's folder, sorted by class, then name in the class
//   row      the classes take turns, each in the order of its ids: the first rows hold every class
// Throws, naming the file, on a damaged image, on one of another size where none is resized, on an
// empty class folder and on a class that train/ does not have.
Source open_image_folder(const std::filesystem::path& root, Split split,
                         const ImageFolderOptions& options = {});
ImageSet image_folder(const std::filesystem::path& root, Split split,
                      const ImageFolderOptions& options = {});

}  // namespace moat::data
