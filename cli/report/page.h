#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "cli/report/run.h"

namespace moat::cli::report {

inline constexpr const char* kHeading = "<h1>Robustness report</h1>";

// One self-contained HTML page: no script, no outside resource. The same folders give the same
// bytes. Pieces that a run lacks are said in a sentence.
std::string page(const std::vector<Run>& runs);

}  // namespace moat::cli::report
