#include "engine/build_info.h"

#include <fstream>

#include "engine/moat_revision.h"  // generated at every build

namespace moat::engine {

namespace {

#ifdef __clang__
constexpr char kCompiler[] = "clang " __clang_version__;
#else
constexpr char kCompiler[] = "GCC " __VERSION__;
#endif

#if defined(__AVX512F__)
constexpr char kInstructions[] = "AVX-512";
#elif defined(__AVX2__)
constexpr char kInstructions[] = "AVX2";
#else
constexpr char kInstructions[] = "baseline";
#endif

}  // namespace

const BuildInfo& build_info() {
  static const BuildInfo info{MOAT_VERSION, kRevision, MOAT_BUILD_TYPE, kCompiler, kInstructions};
  return info;
}

std::string cpu_model() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);)
    if (line.starts_with("model name"))
      if (const size_t colon = line.find(": "); colon != line.npos) return line.substr(colon + 2);
  return "unknown";
}

}  // namespace moat::engine
