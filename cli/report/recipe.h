#pragma once

#include <string>

#include "cli/report/run.h"

namespace moat::cli::report {

// What decides a run besides its seed, as one text: its configuration, and in place of the path of
// the run whose weights it started with that run's own recipe.
std::string recipe_of(const Run& run);

// The seed as in the file; empty where there is none.
std::string seed_of(const Run& run);

}  // namespace moat::cli::report
