#pragma once

#include <string>
#include <vector>

#include "cli/report/side_by_side.h"

namespace moat::cli::report {

enum class Standing { met, not_met, not_comparable };
const char* name_of(Standing standing);

// What a paper says, beside what the runs at hand measured.
struct Claim {
  std::string source, says, measured;
  Standing standing;
  std::string reason;
};

// The claims about methods that are among the runs; a claim about another data set, radius or model
// than was run is not comparable, and says so.
std::vector<Claim> claims_about(const std::vector<SameRuns>& groups);

Table claims_table(const std::vector<Claim>& claims);
Json claims_json(const std::vector<Claim>& claims);

}  // namespace moat::cli::report
