#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <iosfwd>
#include <string>

namespace moat::engine {

// Writes a file as a whole or not at all: into a temporary file of the same folder, which is
// flushed to the disk and renamed. Symbolic links are followed and stay. Throws with the path and
// the system's reason (disk full, missing folder), or when the path is anything but a regular file
// or free; then, or when `write` throws, the old file is untouched and nothing temporary stays.
void write_file(const std::filesystem::path& path, const std::function<void(std::ostream&)>& write);

// The folder and those above it, where they are missing; throws with the path and the reason.
void make_folder(const std::filesystem::path& folder);

// The bytes of a regular file. Throws when it is missing, unreadable or larger than the limit.
std::string read_file(const std::filesystem::path& path, int64_t limit_bytes = int64_t{1} << 30);

}  // namespace moat::engine
