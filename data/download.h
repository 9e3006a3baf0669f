#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "data/fetch.h"

namespace moat::data {

// A data set as its authors publish it.
struct Publication {
  std::string name;  // in the catalog
  std::string url;
  std::string archive;  // the file that url gives
  std::string folder;   // what it unpacks to
  int64_t bytes;        // of the archive
  std::string md5;      // of the archive
};
const std::vector<Publication>& publications();

// Told of the bytes that are there and of those there will be.
using DownloadWatcher = std::function<void(int64_t done, int64_t total)>;

// Brings the archive to `root`, checks it and unpacks it to the folder that is returned; what is
// there already is not brought again. url: where it is taken from instead; empty: where it is
// published. While it comes the archive is called <archive>.part: a download that was broken off
// goes on there. Throws when the disk has no room (for the archive and twice its size of content),
// on another length or checksum, as fetch() and as unpack().
std::filesystem::path download(const Publication& publication, const std::filesystem::path& root,
                               const std::string& url, const Patience& patience,
                               const DownloadWatcher& watcher);

}  // namespace moat::data
