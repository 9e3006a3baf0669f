#include "cli/report/curves.h"

#include "cli/report/svg.h"

namespace moat::cli::report {

namespace {

struct Titles {
  const char *check, *chart, *x;
};
constexpr Titles kCurves[] = {{"G17 ", "Robust accuracy over eps, by the checks", "eps"},
                              {"G15 ", "Robust accuracy over PGD steps, by the checks", "steps"}};

}  // namespace

std::vector<std::string> check_curves(const Evaluation& e) {
  std::vector<std::string> charts;
  const JsonView root(e.report, e.folder / "report.json");
  const auto checks = root.find("checks");
  if (!checks) return charts;
  for (const Titles& titles : kCurves)
    for (const JsonView& check : checks->items()) {
      const auto curve = check.find("curve");
      if (!curve || !check.at("id").str().starts_with(titles.check)) continue;
      Series series{"PGD", {}, {}, 1};
      for (const JsonView& point : curve->items()) {
        const std::vector<JsonView> pair = point.items();
        if (pair.size() != 2) point.fail("a list of two numbers");
        series.x.push_back(pair[0].number());
        series.y.push_back(pair[1].fraction());
      }
      charts.push_back(line_chart({titles.chart, titles.x, Unit::percent, {series}}));
    }
  return charts;
}

}  // namespace moat::cli::report
