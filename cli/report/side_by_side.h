#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/report/run.h"
#include "cli/table.h"

namespace moat::cli::report {

// Runs that differ in nothing but their seed, with what each of them measured.
struct SameRuns {
  std::vector<const Run*> runs;
  std::string name, method, model, data;  // the name is the first run's where it is alone
  double eps;                             // of training
  double parameters, macs;                // NaN: not in the files

  // Of the runs that have it: clean accuracy, of the evaluation of the most images, accuracy under
  // a protocol, and under one attack of a protocol by itself.
  std::vector<double> clean() const;
  std::vector<double> robust(const std::string& protocol) const;
  std::vector<double> alone(const std::string& protocol, const std::string& attack) const;
  // Passes of an attack per second, forward and backward, on the machine of the evaluation.
  std::vector<double> passes_per_second() const;
  int64_t images() const;  // of that evaluation; 0 without any
};
std::vector<SameRuns> same_runs(const std::vector<Run>& runs);

// A row per configuration, mean ± standard deviation over its seeds: SA, RA by PGD-50, AutoAttack
// and MoE-AA, experts and router alone (RA-E, RA-R), and what it costs. Columns that nobody has are
// left out.
Table side_by_side_table(const std::vector<SameRuns>& groups);
Json side_by_side_json(const std::vector<SameRuns>& groups);

}  // namespace moat::cli::report
