#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/report/run.h"
#include "cli/table.h"
#include "train/studies.h"

namespace moat::cli {

// What the runs of a study measured: mean and standard deviation over the seeds, row by row.
class StudyResults {
 public:
  // The study must outlive the results.
  explicit StudyResults(const train::Study& study) : study_(study), of_row_(study.rows.size()) {}

  // `parts`: what `moat routes` calls components; null where it was not measured.
  void add(size_t row, report::Run run, nlohmann::ordered_json parts);

  Table table() const;                      // columns that no row has are left out
  std::string note() const;                 // which protocol saw how many images, and what ± is
  nlohmann::ordered_json document() const;  // with the configuration of each row's first run
  std::string chart() const;                // an SVG file: accuracies, ± a standard deviation
  const std::vector<report::Run>& runs() const { return runs_; }

 private:
  struct Result {
    size_t run;  // in runs_
    nlohmann::ordered_json parts;
  };
  struct Measure;
  static const std::vector<Measure>& measures();
  std::vector<const Measure*> measured() const;
  std::vector<double> values(size_t row, const Measure& measure) const;

  const train::Study& study_;
  std::vector<std::vector<Result>> of_row_;
  std::vector<report::Run> runs_;
};

}  // namespace moat::cli
