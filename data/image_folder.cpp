#include "data/image_folder.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>

#include "data/image.h"

namespace moat::data {

using engine::require;
using engine::text;
namespace fs = std::filesystem;

namespace {
struct File {
  fs::path path;
  int32_t label, id;
};

bool is_hidden(const fs::path& path) { return path.filename().string().starts_with('.'); }

bool is_image_name(const fs::path& path) {
  std::string end = path.extension().string();
  std::transform(end.begin(), end.end(), end.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return !is_hidden(path) && (end == ".jpg" || end == ".jpeg" || end == ".png");
}

std::vector<std::string> class_folders(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.is_directory() && !is_hidden(entry.path()))
      names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<std::string> image_names(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder))
    if (is_image_name(entry.path()) && entry.is_regular_file())
      names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  require(!names.empty(), [&] {
    return text("imagefolder: \"", folder.string(),
                "\" holds no .jpg, .jpeg or .png file: fill it or remove it");
  });
  return names;
}

// The folder of the validation images; empty where they are held out of train/.
fs::path validation_folder(const fs::path& root) {
  const bool val = fs::is_directory(root / "val");
  const bool validation = fs::is_directory(root / "validation");
  require(!(val && validation), [&] {
    return text("imagefolder: \"", root.string(), "\" must not hold both val/ and validation/");
  });
  return val ? root / "val" : validation ? root / "validation" : fs::path{};
}

// Every class's files in id order.
std::vector<std::vector<File>> list_files(const fs::path& folder,
                                          const std::vector<std::string>& class_names) {
  std::vector<std::vector<File>> out(class_names.size());
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
    for (const std::string& file : image_names(folder / name))
      out[static_cast<size_t>(label)].push_back({folder / name / file, label, id++});
  }
  return out;
}

std::vector<File> in_turns(const std::vector<std::vector<File>>& classes) {
  size_t longest = 0;
  for (const auto& files : classes) longest = std::max(longest, files.size());
  std::vector<File> out;
  for (size_t i = 0; i < longest; ++i)
    for (const auto& files : classes)
      if (i < files.size()) out.push_back(files[i]);
  return out;
}

// body(i) for i < n, on all processors. Throws what the lowest failing i threw.
template <class Body>
void on_threads(size_t n, Body body) {
  std::atomic<size_t> next = 0;
  std::mutex mutex;
  size_t failed = n;
  std::exception_ptr error;
  const auto work = [&] {
    for (size_t i = next++; i < n; i = next++) try {
        body(i);
      } catch (...) {
        next = n;  // every lower i has been handed out already
        const std::lock_guard lock(mutex);
        if (i < failed) failed = i, error = std::current_exception();
      }
  };
  const size_t threads =
      std::min<size_t>(std::max(1u, std::thread::hardware_concurrency()), n / 64 + 1);
  {
    std::vector<std::jthread> others;
    for (size_t t = 1; t < threads; ++t) others.emplace_back(work);
    work();
  }
  if (error) std::rethrow_exception(error);
}
}  // namespace

ImageSet image_folder(const fs::path& root, Split split, const ImageFolderOptions& options) {
  require(options.resize >= 0 && options.limit >= 0, [&] {
    return text("imagefolder: resize and limit must not be negative, got ", options.resize, " and ",
                options.limit);
  });
  const fs::path validation = validation_folder(root);
  const bool held_out = validation.empty() && split != Split::test;
  const fs::path folder = split == Split::validation && !held_out ? validation
                          : split == Split::test                  ? root / "test"
                                                                  : root / "train";
  require(fs::is_directory(folder), [&] {
    return text("imagefolder: \"", root.string(), "\" must hold the folder ",
                folder.filename().string(), "/");
  });

  ImageSet out{.channels = 3, .name = "imagefolder", .split = split};
  out.class_names = class_folders(fs::is_directory(root / "train") ? root / "train" : folder);
  std::vector<std::vector<File>> classes = list_files(folder, out.class_names);
  if (held_out)
    for (auto& files : classes)
      std::erase_if(files, [&](const File& file) {
        return is_held_out(file.id) != (split == Split::validation);
      });
  std::vector<File> files = in_turns(classes);
  if (options.limit > 0 && static_cast<int64_t>(files.size()) > options.limit)
    files.resize(static_cast<size_t>(options.limit));
  if (files.empty()) return out;

  const auto read = [&](const File& file) {
    Image image = read_image(file.path);
    return options.resize > 0 ? resized(image, options.resize, options.resize) : image;
  };
  const Image first = read(files[0]);
  out.height = first.height, out.width = first.width;
  out.pixels.resize(files.size() * first.pixels.size());
  on_threads(files.size(), [&](size_t i) {
    const Image image = read(files[i]);
    require(image.height == out.height && image.width == out.width, [&] {
      return text(files[i].path.string(), ": is ", image.width, "x", image.height, ", \"",
                  files[0].path.string(), "\" is ", out.width, "x", out.height,
                  ": set data.resize to a side in pixels");
    });
    std::copy(image.pixels.begin(), image.pixels.end(),
              out.pixels.begin() + static_cast<int64_t>(i * image.pixels.size()));
  });
  for (const File& file : files) {
    out.labels.push_back(file.label);
    out.ids.push_back(file.id);
  }
  return out;
}

}  // namespace moat::data
