#pragma once

#include <string>
#include <vector>

#include "cli/report/run.h"

namespace moat::cli::report {

struct NamedChart {
  std::string name;  // of a file: "accuracy"
  std::string svg;   // inline
};

// Runs beside each other: "accuracy" of every evaluation with its interval; of several runs also
// "validation" and "training", the robust accuracy over the epochs. Charts without a value are left
// out.
std::vector<NamedChart> comparison_charts(const std::vector<Run>& runs);

}  // namespace moat::cli::report
