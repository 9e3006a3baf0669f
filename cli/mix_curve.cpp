#include "cli/mix_curve.h"

#include "cli/evaluation.h"
#include "cli/number_format.h"
#include "cli/report/svg.h"
#include "cli/table.h"
#include "engine/error.h"
#include "engine/io/json.h"
#include "train/statistics.h"

namespace moat::cli {

using engine::require;
using engine::text;
using nlohmann::ordered_json;
namespace fs = std::filesystem;

namespace {

// What has to be the same for a curve to go on.
ordered_json deciding(ordered_json document) {
  for (const char* key : {"tool", "machine", "finished", "curve"}) document.erase(key);
  return document;
}

}  // namespace

MixCurve::MixCurve(const fs::path& folder, ordered_json about)
    : file_(folder / "mix.json"), document_(std::move(about)) {
  document_["finished"] = false;
  document_["curve"] = ordered_json::array();
  if (!fs::exists(file_)) {
    fs::remove(folder / kState);  // of a curve that is no longer there
    write();
    return;
  }
  auto before = engine::parse_json<ordered_json>(engine::read_file(file_), file_.string());
  require(before.value("finished", true) == false && before["curve"].is_array(), [&] {
    return text("'", file_.string(),
                "' holds a finished curve, which is never overwritten; choose another --out");
  });
  require(deciding(before) == deciding(document_), [&] {
    return text("'", file_.string(),
                "' is a curve of other models or settings; choose another --out");
  });
  document_["curve"] = before["curve"];
}

void MixCurve::add(double alpha, int64_t clean, int64_t robust, int64_t n) {
  const auto interval = [&](int64_t part) {
    const train::Interval i = train::wilson_interval(part, n);
    return ordered_json{i.low, i.high};
  };
  document_["curve"].push_back(
      {{"alpha", alpha},
       {"clean_correct", clean},
       {"robust_correct", robust},
       {"clean", train::fraction(clean, n)},
       {"robust", train::fraction(robust, n)},
       {"ci95", {{"clean", interval(clean)}, {"robust", interval(robust)}}}});
  write();
}

void MixCurve::finish() {
  document_["finished"] = true;
  write();
}

void MixCurve::write() const { engine::write_json(file_, document_); }

std::string MixCurve::chart(const std::string& title) const {
  report::LineChart chart{title, "alpha, weight of the robust model", report::Unit::percent, {}};
  for (const char* key : {"clean", "robust"}) {
    report::Series series{.name = text(key, " accuracy"),
                          .x = {},
                          .y = {},
                          .colour = static_cast<int>(chart.series.size())};
    for (const ordered_json& row : rows()) {
      series.x.push_back(row.at("alpha"));
      series.y.push_back(row.at(key));
      const ordered_json& ci = row.at("ci95").at(key);
      series.intervals.push_back({ci.at(0), ci.at(1)});
    }
    chart.series.push_back(std::move(series));
  }
  return report::standalone(report::line_chart(chart));
}

std::string MixCurve::table(int64_t images, const std::string& protocol) const {
  Table table({{"alpha", Align::right},
               {text("clean, of ", images, "  [95 % interval]"), Align::right},
               {text("robust (", protocol, ")"), Align::right}});
  for (const ordered_json& row : rows())
    table.row({brief(row.at("alpha")), accuracy_text(row.at("clean_correct"), images),
               accuracy_text(row.at("robust_correct"), images)});
  return table.str();
}

}  // namespace moat::cli
