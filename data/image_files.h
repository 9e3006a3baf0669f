#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "data/image.h"
#include "data/source.h"

namespace moat::data {

// How images come to one size.
struct Resizing {
  int side = 0;  // of the square that each becomes; 0: all must have the size of the first
  ResizeBy by = ResizeBy::both_sides;
};

struct ImageFile {
  std::filesystem::path path;
  int32_t label, id;
};

// The names of the folders in a folder, sorted; hidden ones are none.
std::vector<std::string> class_folders(const std::filesystem::path& folder);

struct FoundImages {
  std::vector<std::filesystem::path> paths;  // relative to the folder, sorted by name
  int64_t others = 0;                        // images of types that are not read
};
// The images at any depth below a folder (.jpg, .jpeg and .png in any case; hidden files and
// folders are left out). Links are followed. Throws on a link to what is not there, or to a folder
// it lies in.
FoundImages images_below(const std::filesystem::path& folder);

// Throws where the path is a link to what is not there.
void require_target(const std::filesystem::path& path);

// The files of all classes in one list: the first of each class, the second of each …
std::vector<ImageFile> in_turns(const std::vector<std::vector<ImageFile>>& classes);

// Keeps the training files whose ids are held out, or those whose ids are not.
void keep_held_out(std::vector<std::vector<ImageFile>>& classes, Split split);

// A split of one RGB image per file, in the order of the files, with the name, split and classes
// of `labelled`. Files are decoded by engine::threads() threads. Of several files that cannot be
// used the first in this order is named in the error.
Source read_images(const ImageSet& labelled, std::vector<ImageFile> files, const Resizing& resize);

}  // namespace moat::data
