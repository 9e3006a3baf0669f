#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "engine/error.h"

namespace moat::fuzz {

// A file's bytes as a reader takes them.
inline std::string file_of(const uint8_t* bytes, size_t size) {
  return {reinterpret_cast<const char*>(bytes), size};
}

// A reader may refuse what it is given, with an Error. Anything else ends the process.
template <class Read>
int may_refuse(Read&& read) {
  try {
    read();
  } catch (const engine::Error&) {
  }
  return 0;
}

// An empty folder in memory for readers that take a path, the same one in every call.
const std::filesystem::path& folder();
void put(const std::filesystem::path& file, const std::string& bytes);

}  // namespace moat::fuzz
