#include "cli/report/comparison.h"

#include "cli/report/course.h"
#include "engine/error.h"

namespace moat::cli::report {

using engine::text;

namespace {

std::string courses(const std::vector<Run>& runs, const char* column, const char* title) {
  LineChart chart{title, "epoch", Unit::percent, {}};
  for (size_t i = 0; i < runs.size(); ++i) {
    const int number = static_cast<int>(i);
    chart.series.push_back(course_of(runs[i], column, runs[i].name, number,
                                     number < kSeriesColours ? Stroke::solid : Stroke::dashed));
  }
  chart.series = present(std::move(chart.series));
  return line_chart(chart);
}

std::string accuracies(const std::vector<Run>& runs) {
  BarChart bars{"Accuracy with 95 % intervals", {"clean (SA)", "robust (RA)"}, {}};
  for (const Run& run : runs)
    for (const Evaluation& e : run.evaluations)
      bars.groups.push_back({run.evaluations.size() > 1 ? run.name + ", " + e.title() : run.name,
                             {{e.clean, e.clean_interval, text(" of ", e.n)},
                              {e.robust, e.robust_interval, text(" of ", e.n, ", ", e.protocol)}}});
  return bar_chart(bars);
}

}  // namespace

std::vector<NamedChart> comparison_charts(const std::vector<Run>& runs) {
  std::vector<NamedChart> all{{"accuracy", accuracies(runs)}};
  if (runs.size() > 1) {
    all.push_back(
        {"validation", courses(runs, "val_robust", "Robust accuracy on the validation split")});
    all.push_back(
        {"training", courses(runs, "train_robust", "Accuracy on the training attack's images")});
  }
  std::erase_if(all, [](const NamedChart& chart) { return chart.svg.empty(); });
  return all;
}

}  // namespace moat::cli::report
