#pragma once

#include <cstdint>
#include <filesystem>
#include <span>

namespace moat::engine {

// The bytes of a regular file, brought into memory as they are touched and shared by all processes
// that map it. Throws when the file is missing or unreadable. Who shortens a file while it is
// mapped ends the programs that read on; replacing it by rename is harmless.
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const uint8_t> bytes() const { return bytes_; }

 private:
  std::span<const uint8_t> bytes_;
};

}  // namespace moat::engine
