#pragma once

#include <vector>

#include "cli/report/run.h"
#include "cli/table.h"

namespace moat::cli::report {

// Two evaluations of one model on the same images within the same ball, by the images that one of
// them fooled and the other did not.
struct Difference {
  const Evaluation *first, *second;
  std::vector<int64_t> by_first_alone, by_second_alone;  // indices in the data set
};
std::vector<Difference> differences_of(const Run& run);

// A row per pair, with the first few indices; none where there is no such pair.
Table differences_table(const std::vector<Difference>& differences);

// [{first, second, by_first_alone, by_second_alone}] with the protocols' names.
Json differences_json(const std::vector<Difference>& differences);

}  // namespace moat::cli::report
