#include "data/image_folder.h"

#include <algorithm>

#include "data/image_files.h"

namespace moat::data {

using engine::require;
using engine::text;
namespace fs = std::filesystem;

namespace {
// val/ or validation/; empty where there is none.
fs::path validation_folder(const fs::path& root) {
  const bool val = fs::is_directory(root / "val");
  const bool validation = fs::is_directory(root / "validation");
  require(!(val && validation), [&] {
    return text("imagefolder: \"", root.string(), "\" must not hold both val/ and validation/");
  });
  return val ? root / "val" : validation ? root / "validation" : fs::path{};
}

// Where the rows of a split lie.
struct Place {
  fs::path folder;
  bool is_divided;  // between train and validation by is_held_out
};

Place place_of(const fs::path& root, Split split) {
  const fs::path validation = validation_folder(root), test = root / "test";
  const bool has_test = fs::is_directory(test);
  if (split == Split::test) return {has_test || validation.empty() ? test : validation, false};
  const bool is_divided = validation.empty() || !has_test;
  return {split == Split::validation && !is_divided ? validation : root / "train", is_divided};
}

// By class; ids count the files in the order of class and name.
std::vector<std::vector<ImageFile>> list_files(const fs::path& folder,
                                               const std::vector<std::string>& class_names) {
  std::vector<std::vector<ImageFile>> out(class_names.size());
  int32_t id = 0;
  const std::vector<std::string> names = class_folders(folder);
  require(!names.empty(), [&] {
    return text("imagefolder: \"", folder.string(), "\" must hold a folder of images per class");
  });
  for (const std::string& name : names) {
    const auto at = std::lower_bound(class_names.begin(), class_names.end(), name);
    require(at != class_names.end() && *at == name, [&] {
      return text("imagefolder: \"", (folder / name).string(), "\" is a class that train/ lacks");
    });
    const auto label = static_cast<int32_t>(at - class_names.begin());
    const std::vector<fs::path> images = images_below(folder / name);
    require(!images.empty(), [&] {
      return text("imagefolder: \"", (folder / name).string(),
                  "\" holds no .jpg, .jpeg or .png file: fill it or remove it");
    });
    for (const fs::path& image : images)
      out[static_cast<size_t>(label)].push_back({folder / name / image, label, id++});
  }
  return out;
}
}  // namespace

Source open_image_folder(const fs::path& root, Split split, const ImageFolderOptions& options) {
  require(options.resize >= 0 && options.limit >= 0, [&] {
    return text("imagefolder: resize and limit must not be negative, got ", options.resize, " and ",
                options.limit);
  });
  const auto [folder, is_divided] = place_of(root, split);
  require(fs::is_directory(folder), [&, &missing = folder] {
    return text("imagefolder: \"", root.string(), "\" must hold the folder ",
                missing.filename().string(), "/");
  });
  ImageSet labelled{.name = "imagefolder", .split = split};
  labelled.class_names = class_folders(fs::is_directory(root / "train") ? root / "train" : folder);
  std::vector<std::vector<ImageFile>> classes = list_files(folder, labelled.class_names);
  if (is_divided) keep_held_out(classes, split);
  std::vector<ImageFile> files = in_turns(classes);
  if (options.limit > 0 && static_cast<int64_t>(files.size()) > options.limit)
    files.resize(static_cast<size_t>(options.limit));
  return read_images(labelled, std::move(files), options.resize);
}

ImageSet image_folder(const fs::path& root, Split split, const ImageFolderOptions& options) {
  return loaded(open_image_folder(root, split, options));
}

}  // namespace moat::data
