#pragma once

#include <string>
#include <vector>

#include "cli/report/run.h"
#include "cli/report/svg.h"

namespace moat::cli::report {

// A column of a run's metrics over its epochs, counted from 1. Epochs without a value (no
// validation) are left out: the line goes on to the next one that has one.
Series course_of(const Run& run, const std::string& column, const std::string& name, int colour,
                 Stroke stroke = Stroke::solid);

// The series that have a value at all.
std::vector<Series> present(std::vector<Series> all);

}  // namespace moat::cli::report
