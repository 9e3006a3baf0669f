#pragma once

#include <cstdint>
#include <filesystem>

namespace moat::data {

// Unpacks a .tar.gz or .zip archive into a folder that does not exist yet. Throws, and leaves no
// such folder, when the archive is damaged, holds anything but files and folders or a name that
// leads out of the folder, or when more than `limit_bytes` come out of it.
void unpack(const std::filesystem::path& archive, const std::filesystem::path& folder,
            int64_t limit_bytes);

}  // namespace moat::data
