#pragma once

#include <string>
#include <vector>

#include "cli/report/run.h"
#include "cli/table.h"

namespace moat::cli::report {

// The table that the terminal and the page both show: a row per run and protocol.
Table headline_table(const std::vector<Run>& runs);

// What the columns of the table mean, a sentence each.
std::vector<std::string> headline_notes(const std::vector<Run>& runs);

// {"runs": [{name, method, model, protocol, sa, sa_ci, ra, ra_ci, alone, parameters, macs,
// validation_best, validation_last, …}]},
// accuracies as fractions, null for what is not there.
Json headline_json(const std::vector<Run>& runs);

}  // namespace moat::cli::report
