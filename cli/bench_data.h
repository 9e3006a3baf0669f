#pragma once

#include "cli/commands.h"

namespace moat::cli {

// moat bench data.
void add_bench_data(CLI::App& bench, Globals& globals);

}  // namespace moat::cli
