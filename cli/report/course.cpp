#include "cli/report/course.h"

#include <algorithm>
#include <cmath>

namespace moat::cli::report {

Series course_of(const Run& run, const std::string& column, const std::string& name, int colour,
                 Stroke stroke) {
  Series s{name, {}, {}, colour, stroke};
  const std::vector<double> epochs = run.metrics.numbers("epoch"),
                            values = run.metrics.numbers(column);
  const int at = run.metrics.column(column);
  for (size_t i = 0; at >= 0 && i < values.size(); ++i) {
    if (run.metrics.rows[i][static_cast<size_t>(at)].empty()) continue;
    s.x.push_back(epochs[i] + 1);  // the file counts from 0, people from 1
    s.y.push_back(values[i]);
  }
  return s;
}

std::vector<Series> present(std::vector<Series> all) {
  std::erase_if(all, [](const Series& s) {
    return std::all_of(s.y.begin(), s.y.end(), [](double v) { return std::isnan(v); });
  });
  return all;
}

}  // namespace moat::cli::report
