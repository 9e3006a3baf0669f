#pragma once

#include <vector>

#include "cli/report/run.h"
#include "cli/report/side_by_side.h"
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

// [{first, second, by_first_alone, by_second_alone}] with the evaluations' titles.
Json differences_json(const std::vector<Difference>& differences);

// The same protocol on two models: each run of another configuration beside that of the first one
// with its seed, or beside the only one.
struct RunDifference {
  std::string name, beside, seed;
  Difference images;
  double p;  // of the exact sign test
};
std::vector<RunDifference> differences_between(const std::vector<SameRuns>& groups);
Table run_differences_table(const std::vector<RunDifference>& differences);
Json run_differences_json(const std::vector<RunDifference>& differences);

inline constexpr const char* kRunDifferencesNote =
    "p: of the exact two-sided sign test on the images that resist with one model alone. It is "
    "about these two models on such images, and not about other seeds.";

}  // namespace moat::cli::report
