#include "data/download.h"

#include "data/md5.h"
#include "data/unpack.h"
#include "engine/error.h"
#include "engine/io/file.h"

namespace moat::data {

using engine::require;
using engine::text;
namespace fs = std::filesystem;

namespace {
// What comes out of an archive, in its size: an estimate that counts the disk blocks of small
// files, and what no archive of images holds.
constexpr int64_t kContent = 2, kLargestContent = 16;

void require_room(const fs::path& root, int64_t bytes) {
  const auto room = static_cast<int64_t>(fs::space(root).available);
  require(room >= bytes, [&] {
    return text(root.string(), ": must have ", bytes >> 20, " MiB free, it has ", room >> 20,
                " MiB");
  });
}

void require_published(const Publication& p, const fs::path& file, const std::string& what_to_do) {
  const std::string md5 = md5_of(file);
  require(md5 == p.md5, [&] {
    return text(file.string(), ": its MD5 must be ", p.md5, ", as published, it is ", md5, "; ",
                what_to_do);
  });
}
}  // namespace

const std::vector<Publication>& publications() {
  // MD5 as https://www.cs.toronto.edu/~kriz/cifar.html has it. Tiny-ImageNet is published without;
  // this is what its users check.
  static const std::vector<Publication> all = {
      {.name = "cifar10",
       .url = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
       .archive = "cifar-10-binary.tar.gz",
       .folder = "cifar-10-batches-bin",
       .bytes = 170052171,
       .md5 = "c32a1d4ab5d03f1284b67883e8d87530"},
      {.name = "cifar100",
       .url = "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
       .archive = "cifar-100-binary.tar.gz",
       .folder = "cifar-100-binary",
       .bytes = 168513733,
       .md5 = "03b5dce01913d631647c71ecec9e9cb8"},
      {.name = "tiny-imagenet",
       .url = "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
       .archive = "tiny-imagenet-200.zip",
       .folder = "tiny-imagenet-200",
       .bytes = 248100043,
       .md5 = "90528d7ca1a48142e341f4ef8d21d0de"},
  };
  return all;
}

fs::path download(const Publication& p, const fs::path& root, const std::string& url,
                  const Patience& patience, const DownloadWatcher& watcher) {
  const fs::path folder = root / p.folder, archive = root / p.archive;
  if (fs::exists(folder)) {
    require(fs::is_directory(folder) && !fs::is_empty(folder), [&] {
      return text(folder.string(), ": must hold the unpacked files, it is ",
                  fs::is_directory(folder) ? "empty" : "no folder", "; remove it and try again");
    });
    return folder;
  }
  engine::make_folder(root);
  if (!fs::exists(archive)) {
    const fs::path part = archive.string() + ".part";
    require_room(root, (1 + kContent) * p.bytes);
    fetch(url.empty() ? p.url : url, part, p.bytes, patience,
          [&](int64_t done) { watcher(done, p.bytes); });
    try {
      require_published(p, part, "nothing was kept: try again, or another --url");
    } catch (...) {
      fs::remove(part);
      throw;
    }
    fs::rename(part, archive);
  } else {
    require_room(root, kContent * p.bytes);
    require_published(p, archive, "remove it to download it again");
  }
  const fs::path unpacking = folder.string() + ".unpacking";
  fs::remove_all(unpacking);  // of a program that was killed
  unpack(archive, unpacking, kLargestContent * p.bytes);
  const bool holds_it = fs::is_directory(unpacking / p.folder);
  if (holds_it) fs::rename(unpacking / p.folder, folder);
  fs::remove_all(unpacking);
  require(holds_it, [&] {
    return text(archive.string(), ": must hold the folder ", p.folder, "/, it does not");
  });
  return folder;
}

}  // namespace moat::data
