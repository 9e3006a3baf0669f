#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/report/run.h"
#include "cli/table.h"

namespace moat::cli::report {

// One number of each seed that has it, all measured under the same conditions.
struct Measured {
  std::vector<double> values;
  const Evaluation* like = nullptr;  // one of the evaluations; null without values
  std::string differing = {};  // conditions that no choice of evaluations makes equal: no values
};

// Runs that differ in nothing but their seed, with what each of them measured. A V-MoE whose
// experts were given several rooms is as many of these.
struct SameRuns {
  std::vector<const Run*> runs;           // one of each seed
  std::string name, method, model, data;  // the name is the first run's where it is alone
  double eps;                             // of training
  double parameters, macs;                // NaN: not in the files
  std::vector<const Run*> repeated = {};  // of a seed that is there already; not counted
  std::string room = {};                  // of the evaluations that are looked at
  bool is_of(const Evaluation& evaluation) const { return evaluation.room == room; }

  // Clean accuracy, accuracy under a protocol, and under one attack of a protocol by itself; of
  // several evaluations that would do the one of the most images. The clean accuracy is of the
  // evaluation whose robust accuracy is shown beside it, where there is one.
  Measured clean() const;
  Measured robust(const std::string& protocol) const;
  Measured alone(const std::string& protocol, const std::string& attack) const;
  // Passes of an attack per second, forward and backward, on the machine of the evaluation.
  std::vector<double> passes_per_second() const;
};
std::vector<SameRuns> same_runs(const std::vector<Run>& runs);

// A row per configuration, mean ± standard deviation over its seeds: SA, RA by PGD-50, sign-40,
// AutoAttack and MoE-AA, experts and router alone (RA-E, RA-R), and what it costs. Columns that
// nobody has are left out; the balls are a column where the rows differ in them.
Table side_by_side_table(const std::vector<SameRuns>& groups);
// What is missing in the table and why, a sentence each.
std::vector<std::string> side_by_side_notes(const std::vector<SameRuns>& groups);
Json side_by_side_json(const std::vector<SameRuns>& groups);

}  // namespace moat::cli::report
