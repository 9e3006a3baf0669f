#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace moat::attacks {

enum class CheckStatus { pass, warn, fail, skip };
const char* name_of(CheckStatus status);

// One sanity check of an evaluation, as a report prints it.
struct Check {
  std::string id, title;  // "G9", "no vanishing gradients"
  CheckStatus status = CheckStatus::skip;
  double value = 0, threshold = 0;  // it passes up to the threshold; the smaller the better
  std::string meaning = {};         // of the value
  std::string next_action = {};     // where it did not pass; of a skipped check, empty
  // What the value was taken from, where that is a curve: robust accuracy (of all the images) over
  // the attack's steps (G15) or over eps (G17).
  std::vector<std::pair<double, double>> curve = {};
};

// What a check is held to: `pass` up to the first limit, `warn` up to the second, `fail` beyond and
// for a value that is not a number.
struct Criterion {
  const char *id, *title;
  double pass, warn;
  const char *meaning, *next_action;
};
const Criterion& criterion(std::string_view id);  // throws Error for an unknown id

Check judged(std::string_view id, double value);
Check skipped(std::string_view id, const std::string& reason);

}  // namespace moat::attacks
