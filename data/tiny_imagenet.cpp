#include "data/tiny_imagenet.h"

#include <algorithm>
#include <set>
#include <sstream>

#include "data/image_files.h"
#include "engine/io/file.h"

namespace moat::data {

using engine::require;
using engine::text;
namespace fs = std::filesystem;

namespace {
constexpr const char* kFolder = "tiny-imagenet-200";

fs::path folder_of(const fs::path& root) {
  for (const fs::path& folder : {root, root / kFolder})
    if (fs::exists(folder / "wnids.txt")) return folder;
  throw engine::Error(text("tiny-imagenet: \"", root.string(),
                           "\" must hold the published files (wnids.txt, train/, val/) or the "
                           "folder ",
                           kFolder, "/"));
}

std::vector<std::string> lines_of(const fs::path& file) {
  std::istringstream in(engine::read_file(file));
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (!line.empty()) lines.push_back(std::move(line));
  }
  return lines;
}

// A class of WordNet: n and eight digits.
bool is_wnid(const std::string& s) {
  return s.size() == 9 && s[0] == 'n' &&
         std::all_of(s.begin() + 1, s.end(), [](char c) { return c >= '0' && c <= '9'; });
}

std::vector<std::string> read_wnids(const TinyImagenetLayout& layout, const fs::path& file) {
  std::vector<std::string> wnids = lines_of(file);
  for (const std::string& wnid : wnids)
    require(is_wnid(wnid), [&] {
      return text(file.string(), ": a line must be n and eight digits, got \"", wnid, "\"");
    });
  std::sort(wnids.begin(), wnids.end());
  const auto again = std::adjacent_find(wnids.begin(), wnids.end());
  require(again == wnids.end(), [&] { return text(file.string(), ": names ", *again, " twice"); });
  require(static_cast<int>(wnids.size()) == layout.classes, [&] {
    return text(file.string(), ": must name ", layout.classes, " classes, it names ", wnids.size());
  });
  return wnids;
}

// "n01443537 goldfish"; the wnid alone where words.txt has nothing to say.
std::vector<std::string> class_names(const std::vector<std::string>& wnids, const fs::path& file) {
  std::vector<std::string> names = wnids;
  if (!fs::exists(file)) return names;
  for (const std::string& line : lines_of(file)) {
    const std::string wnid = line.substr(0, line.find('\t'));
    const auto at = std::lower_bound(wnids.begin(), wnids.end(), wnid);
    if (at == wnids.end() || *at != wnid || wnid.size() == line.size()) continue;
    const std::string words = line.substr(wnid.size() + 1);
    names[static_cast<size_t>(at - wnids.begin())] = wnid + " " + words.substr(0, words.find(','));
  }
  return names;
}

std::vector<ImageFile> train_files(const TinyImagenetLayout& layout, const fs::path& folder,
                                   const std::vector<std::string>& wnids, Split split) {
  std::vector<std::vector<ImageFile>> classes;
  int32_t id = 0;
  for (const std::string& wnid : wnids) {
    const fs::path images = folder / wnid / "images";
    require(fs::is_directory(images), [&] {
      return text("tiny-imagenet: there must be a folder \"", images.string(),
                  "\"; unpack the published archive again");
    });
    const std::vector<fs::path> names = images_below(images).paths;
    require(static_cast<int>(names.size()) == layout.train_per_class, [&] {
      return text(images.string(), ": must hold ", layout.train_per_class, " images, it holds ",
                  names.size(), "; unpack the published archive again");
    });
    std::vector<ImageFile>& files = classes.emplace_back();
    for (const fs::path& name : names)
      files.push_back({images / name, static_cast<int32_t>(classes.size()) - 1, id++});
  }
  keep_held_out(classes, split);
  return in_turns(classes);
}

// The lines of val_annotations.txt: file name, wnid and four numbers of a box, between tabs.
std::vector<ImageFile> val_files(const TinyImagenetLayout& layout, const fs::path& folder,
                                 const std::vector<std::string>& wnids) {
  const fs::path list = folder / "val_annotations.txt", images = folder / "images";
  std::vector<ImageFile> files;
  std::set<std::string> names;
  for (const std::string& line : lines_of(list)) {
    std::istringstream fields(line);
    std::string name, wnid;
    std::getline(fields, name, '\t') && std::getline(fields, wnid, '\t');
    const auto at = std::lower_bound(wnids.begin(), wnids.end(), wnid);
    require(at != wnids.end() && *at == wnid, [&] {
      return text(list.string(), ": \"", wnid, "\" of \"", name, "\" is not a class of wnids.txt");
    });
    require(names.insert(name).second,
            [&] { return text(list.string(), ": \"", name, "\" has more than one line"); });
    files.push_back({images / name, static_cast<int32_t>(at - wnids.begin()),
                     static_cast<int32_t>(files.size())});
  }
  require(fs::is_directory(images), [&] {
    return text("tiny-imagenet: there must be a folder \"", images.string(),
                "\"; unpack the published archive again");
  });
  const std::vector<fs::path> present = images_below(images).paths;
  for (const fs::path& name : present)
    require(names.erase(name.string()) == 1,
            [&] { return text((images / name).string(), ": has no line in val_annotations.txt"); });
  require(names.empty(), [&] {
    return text(list.string(), ": \"", *names.begin(), "\" is not in \"", images.string(), "\"");
  });
  require(static_cast<int>(files.size()) == layout.val, [&] {
    return text(list.string(), ": must have ", layout.val, " lines, it has ", files.size());
  });
  return files;
}
}  // namespace

Source open_tiny_imagenet(const TinyImagenetLayout& layout, const fs::path& root, Split split,
                          const ImageFolderOptions& options) {
  const fs::path folder = folder_of(root);
  const std::vector<std::string> wnids = read_wnids(layout, folder / "wnids.txt");
  std::vector<ImageFile> files = split == Split::test
                                     ? val_files(layout, folder / "val", wnids)
                                     : train_files(layout, folder / "train", wnids, split);
  if (options.limit > 0 && static_cast<int64_t>(files.size()) > options.limit)
    files.resize(static_cast<size_t>(options.limit));
  return read_images({.class_names = class_names(wnids, folder / "words.txt"),
                      .name = "tiny-imagenet",
                      .split = split},
                     std::move(files), options.resize);
}

}  // namespace moat::data
