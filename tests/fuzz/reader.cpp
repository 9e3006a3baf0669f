#include "tests/fuzz/reader.h"

#include <unistd.h>

#include <fstream>

namespace moat::fuzz {

namespace fs = std::filesystem;

namespace {
struct Folder {
  fs::path path;
  Folder() {
    const fs::path memory = "/dev/shm";
    path = (fs::exists(memory) ? memory : fs::temp_directory_path()) /
           ("fuzz-" + std::to_string(::getpid()));
    fs::create_directory(path);
  }
  ~Folder() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
};
}  // namespace

const fs::path& folder() {
  static const Folder folder;
  return folder.path;
}

void put(const fs::path& file, const std::string& bytes) {
  fs::create_directories(file.parent_path());
  std::ofstream(file, std::ios::binary) << bytes;
}

}  // namespace moat::fuzz
