#include "data/image_files.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>

#include "engine/hardware.h"

namespace moat::data {

using engine::require;
using engine::text;
namespace fs = std::filesystem;

namespace {
constexpr size_t kFilesPerThread = 64;  // fewer are not worth a thread

bool is_hidden(const fs::path& path) { return path.filename().string().starts_with('.'); }

constexpr std::array kRead = {".jpg", ".jpeg", ".png"};
// What torchvision's ImageFolder reads besides.
constexpr std::array kNotRead = {".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"};

std::string lower_extension(const fs::path& path) {
  std::string end = path.extension().string();
  std::transform(end.begin(), end.end(), end.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return end;
}

// Whoever follows it would never arrive.
void require_no_loop(const fs::path& link) {
  const fs::path target = fs::canonical(link), place = fs::canonical(link.parent_path());
  const auto [end, at] = std::mismatch(target.begin(), target.end(), place.begin(), place.end());
  require(end != target.end(), [&] {
    return text("\"", link.string(), "\" is a link to a folder that it lies in: remove the link");
  });
}

// body(i) for i < n, on the threads of the engine. Throws what the lowest failing i threw.
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
  const size_t threads = std::min(static_cast<size_t>(engine::threads()), n / kFilesPerThread + 1);
  {
    std::vector<std::jthread> others;
    for (size_t t = 1; t < threads; ++t) others.emplace_back(work);
    work();
  }
  if (error) std::rethrow_exception(error);
}

Image decoded(const ImageFile& file, const Resizing& resize) {
  Image image = read_image(file.path);
  if (resize.side == 0) return image;
  try {
    return squared(image, resize.side, resize.by);
  } catch (const engine::Error& error) {
    throw engine::Error(text(file.path.string(), ", ", name_of(resize.by), " resized to ",
                             resize.side, ": ", error.what()));
  }
}
}  // namespace

std::vector<std::string> class_folders(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (is_hidden(entry.path())) continue;
    require_target(entry.path());
    if (entry.is_directory()) names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

void require_target(const fs::path& path) {
  std::error_code failed;
  require(!fs::is_symlink(path) || fs::exists(path, failed), [&] {
    return text("\"", path.string(), "\" is a link to what is not there: put it back, or ",
                "remove the link");
  });
}

FoundImages images_below(const fs::path& folder) {
  FoundImages found;
  std::vector<std::string> names;
  const auto follow = fs::directory_options::follow_directory_symlink;
  for (auto it = fs::recursive_directory_iterator(folder, follow); it != fs::end(it); ++it) {
    if (is_hidden(it->path())) {
      it.disable_recursion_pending();
      continue;
    }
    require_target(it->path());  // an image less in silence
    if (it->is_symlink() && it->is_directory()) require_no_loop(it->path());
    if (!it->is_regular_file()) continue;
    const std::string end = lower_extension(it->path());
    if (std::ranges::find(kRead, end) != kRead.end())
      names.push_back(it->path().lexically_relative(folder).string());
    else if (std::ranges::find(kNotRead, end) != kNotRead.end())
      ++found.others;
  }
  std::sort(names.begin(), names.end());
  found.paths.assign(names.begin(), names.end());
  return found;
}

std::vector<ImageFile> in_turns(const std::vector<std::vector<ImageFile>>& classes) {
  size_t longest = 0;
  for (const auto& files : classes) longest = std::max(longest, files.size());
  std::vector<ImageFile> out;
  for (size_t i = 0; i < longest; ++i)
    for (const auto& files : classes)
      if (i < files.size()) out.push_back(files[i]);
  return out;
}

void keep_held_out(std::vector<std::vector<ImageFile>>& classes, Split split) {
  for (auto& files : classes)
    std::erase_if(files, [&](const ImageFile& file) {
      return is_held_out(file.id) != (split == Split::validation);
    });
}

Source read_images(const ImageSet& labelled, std::vector<ImageFile> files, const Resizing& resize) {
  Source out{labelled};
  ImageSet& set = out.set;
  set.channels = 3;
  for (const ImageFile& file : files) {
    set.labels.push_back(file.label);
    set.ids.push_back(file.id);
  }
  if (files.empty()) return out;
  const Image first = decoded(files[0], resize);
  set.height = first.height, set.width = first.width;
  out.read = [files = std::make_shared<const std::vector<ImageFile>>(std::move(files)), resize,
              height = first.height,
              width = first.width](int64_t from, int64_t to, uint8_t* pixels) {
    const size_t bytes = size_t{3} * height * width;
    on_threads(static_cast<size_t>(to - from), [&](size_t i) {
      const ImageFile& file = (*files)[static_cast<size_t>(from) + i];
      uint8_t* row = pixels + i * bytes;
      if (resize.side > 0) {
        std::copy_n(decoded(file, resize).pixels.data(), bytes, row);
        return;
      }
      read_image(file.path, [&](int its_height, int its_width) {
        require(its_height == height && its_width == width, [&] {
          return text("is ", its_width, "x", its_height, ", \"", files->front().path.string(),
                      "\" is ", width, "x", height,
                      ": set data.resize (of moat data: --resize) to a side in pixels");
        });
        return row;
      });
    });
  };
  return out;
}

}  // namespace moat::data
