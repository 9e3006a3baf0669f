#include "cli/mix_curve.h"

#include "cli/evaluation.h"
#include "cli/number_format.h"
#include "cli/report/svg.h"
#include "cli/table.h"
#include "engine/error.h"

namespace moat::cli {

using engine::text;
using nlohmann::ordered_json;

std::string mix_chart(const ordered_json& points, const std::string& title) {
  report::LineChart chart{title, "alpha, weight of the robust model", report::Unit::percent, {}};
  for (const char* key : {"clean", "robust"}) {
    report::Series series{.name = text(key, " accuracy"),
                          .x = {},
                          .y = {},
                          .colour = static_cast<int>(chart.series.size())};
    for (const ordered_json& point : points) {
      series.x.push_back(point.at("alpha"));
      series.y.push_back(point.at(key));
      const ordered_json& ci = point.at("ci95").at(key);
      series.intervals.push_back({ci.at(0), ci.at(1)});
    }
    chart.series.push_back(std::move(series));
  }
  return report::standalone(report::line_chart(chart));
}

std::string mix_table(const ordered_json& points, int64_t images, const std::string& protocol) {
  Table table({{"alpha", Align::right},
               {text("clean, of ", images, "  [95 % interval]"), Align::right},
               {text("robust (", protocol, ")"), Align::right}});
  for (const ordered_json& point : points)
    table.row({brief(point.at("alpha")), accuracy_text(point.at("clean_correct"), images),
               accuracy_text(point.at("robust_correct"), images)});
  return table.str();
}

}  // namespace moat::cli
