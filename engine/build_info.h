#pragma once

#include <string>

namespace moat::engine {

// What this binary was built from; it stands in every file that holds a result.
struct BuildInfo {
  std::string version;       // "0.1.0"
  std::string revision;      // of git, "-dirty" with uncommitted changes; "unknown" without git
  std::string type;          // "Release", …
  std::string compiler;      // "GCC 12.2.0"
  std::string instructions;  // the widest vectors of our own loops
};
const BuildInfo& build_info();

// Model name of this machine's CPU; "unknown" where the system does not tell.
std::string cpu_model();

}  // namespace moat::engine
