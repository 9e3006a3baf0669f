#include "data/image_folder.h"

#include <algorithm>

namespace moat::data {

using engine::require;
using engine::text;
namespace fs = std::filesystem;

namespace {
// val/, valid/ or validation/; empty where there is none.
fs::path validation_folder(const fs::path& root) {
  fs::path found;
  for (const char* name : {"val", "valid", "validation"}) {
    if (!fs::is_directory(root / name)) continue;
    require(found.empty(), [&] {
      return text("imagefolder: \"", root.string(), "\" must not hold both ",
                  found.filename().string(), "/ and ", name, "/: remove one");
    });
    found = root / name;
  }
  return found;
}

// Where the rows of a split lie.
struct Place {
  fs::path folder;
  bool is_divided;  // between train and validation by is_held_out
};

Place place_of(const fs::path& root, Split split) {
  for (const char* name : {"train", "val", "valid", "validation", "test"})
    require_target(root / name);  // the other splits would mean something else
  const fs::path validation = validation_folder(root), test = root / "test";
  const bool has_test = fs::is_directory(test);
  if (split == Split::test) return {has_test || validation.empty() ? test : validation, false};
  const bool is_divided = validation.empty() || !has_test;
  return {split == Split::validation && !is_divided ? validation : root / "train", is_divided};
}

// By class; ids count the files in the order of class and name.
std::vector<std::vector<ImageFile>> list_files(const fs::path& folder, ImageSet& labelled) {
  const std::vector<std::string>& class_names = labelled.class_names;
  std::vector<std::vector<ImageFile>> out(class_names.size());
  int32_t id = 0;
  int64_t others = 0;
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
    const auto [images, not_read] = images_below(folder / name);
    require(!images.empty(), [&, unread = not_read] {
      return text("imagefolder: \"", (folder / name).string(),
                  "\" holds no .jpg, .jpeg or .png file",
                  unread > 0 ? text(", and ", unread, " of other types: convert them")
                             : std::string(": fill it or remove it"));
    });
    others += not_read;
    for (const fs::path& image : images)
      out[static_cast<size_t>(label)].push_back({folder / name / image, label, id++});
  }
  if (others > 0)
    labelled.warning = text("imagefolder: \"", folder.string(), "\" holds ", others,
                            " images that are neither .jpg, .jpeg nor .png and are left out: "
                            "convert them to have them read");
  return out;
}
}  // namespace

Source open_image_folder(const fs::path& root, Split split, const ImageFolderOptions& options) {
  require(options.resize.side >= 0 && options.limit >= 0, [&] {
    return text("imagefolder: resize and limit must not be negative, got ", options.resize.side,
                " and ", options.limit);
  });
  const auto [folder, is_divided] = place_of(root, split);
  require(fs::is_directory(folder), [&, &missing = folder] {
    return text("imagefolder: \"", root.string(), "\" must hold the folder ",
                missing.filename().string(), "/");
  });
  ImageSet labelled{.name = "imagefolder", .split = split};
  labelled.class_names = class_folders(fs::is_directory(root / "train") ? root / "train" : folder);
  std::vector<std::vector<ImageFile>> classes = list_files(folder, labelled);
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
