#pragma once

#include <string>
#include <vector>

#include "cli/report/run.h"

namespace moat::cli::report {

// Charts of what an evaluation's checks went through: robust accuracy over eps (G17) and over the
// steps of an attack (G15), of the images that the checks look at.
std::vector<std::string> check_curves(const Evaluation& evaluation);

}  // namespace moat::cli::report
