#pragma once

#include <filesystem>
#include <string>

namespace moat::data {

// The MD5 of a file as 32 hexadecimal digits: the checksum that data sets are published with. It
// tells damage; who forges an archive can forge it as well.
std::string md5_of(const std::filesystem::path& file);

}  // namespace moat::data
