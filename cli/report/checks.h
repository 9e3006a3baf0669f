#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/report/run.h"

namespace moat::cli::report {

enum class Verdict { pass, warn, fail, skip };
const char* name_of(Verdict verdict);

struct Check {
  Verdict verdict;
  std::string subject;  // "expert use"
  std::string value;    // what was found
  std::string meaning;  // a sentence
};

// What can be judged from the files of an evaluation, where none of the report's own `checks`,
// which follow, says the same.
std::vector<Check> checks(const Evaluation& evaluation);

// The robust accuracy on the validation split, at its best and in the end (Rice et al. 2020: robust
// overfitting); without such a column the clean one's. Nothing where training checked neither.
struct ValidationCourse {
  double best, last;  // fractions
  int best_epoch;     // from 1
};
std::optional<ValidationCourse> validation_course(const Run& run);
Check overfitting_check(const ValidationCourse& course);

// The warnings that training wrote into events.jsonl, oldest first; equal kinds are counted, the
// last one is kept.
std::vector<Check> training_warnings(const Run& run);

}  // namespace moat::cli::report
