#pragma once

#include <filesystem>
#include <string_view>

namespace moat::train {

// A file that only grows: every write is handed to the system whole before it returns, so that a
// killed process leaves at most one torn record at the end. Created when missing; throws when it
// cannot be opened or written (a full disk), naming the file and the system's reason.
class AppendFile {
 public:
  explicit AppendFile(const std::filesystem::path& path);
  ~AppendFile();
  AppendFile(AppendFile&& other) noexcept;
  AppendFile& operator=(AppendFile&& other) noexcept;

  void write(std::string_view bytes);
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  int file_ = -1;
};

}  // namespace moat::train
