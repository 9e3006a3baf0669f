#pragma once

#include "cli/commands.h"

namespace moat::cli {

// moat bench kernels.
void add_bench_kernels(CLI::App& bench, Globals& globals);

}  // namespace moat::cli
