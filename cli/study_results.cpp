#include "cli/study_results.h"

#include <algorithm>
#include <optional>
#include <set>

#include "cli/number_format.h"
#include "cli/report/svg.h"
#include "engine/error.h"

namespace moat::cli {

using engine::text;
using nlohmann::ordered_json;

namespace {

using Value = std::optional<double>;

// The study's own, in the folder that it chooses; others in the run are not of this comparison.
const report::Evaluation* find(const report::Run& run, const char* protocol) {
  const auto at = std::ranges::find_if(run.evaluations, [&](const report::Evaluation& e) {
    return e.folder.filename() == protocol;
  });
  return at == run.evaluations.end() ? nullptr : &*at;
}

const report::Evaluation* pgd(const report::Run& run) { return find(run, "pgd-50@1"); }

// AutoAttack's accuracy, of a mixture with the attacks on routes after it.
Value strongest(const report::Run& run) {
  for (const char* protocol : {"moe-aa@1", "aa-standard@1"})
    if (const report::Evaluation* e = find(run, protocol)) return e->robust;
  return std::nullopt;
}

Value part(const ordered_json& parts, const char* key) {
  return parts.is_null() ? Value{} : parts.at(key).get<double>();
}

}  // namespace

struct StudyResults::Measure {
  const char *title, *key;
  enum { in_chart, in_table } shown;
  Value (*of)(const report::Run& run, const ordered_json& parts);
};

const std::vector<StudyResults::Measure>& StudyResults::measures() {
  using R = report::Run;
  using J = ordered_json;
  static const std::vector<Measure> all = {
      {"SA %", "sa", Measure::in_chart,
       [](const R& r, const J&) { return pgd(r) ? Value(pgd(r)->clean) : Value{}; }},
      {"RA %, PGD-50", "ra_pgd_50", Measure::in_chart,
       [](const R& r, const J&) { return pgd(r) ? Value(pgd(r)->robust) : Value{}; }},
      {"through", "through", Measure::in_table,
       [](const R& r, const J&) { return pgd(r) ? pgd(r)->gate_open() : Value{}; }},
      {"blocked", "blocked", Measure::in_table,
       [](const R& r, const J&) { return pgd(r) ? pgd(r)->gate_blocked() : Value{}; }},
      {"AA or MoE-AA %", "moe_aa", Measure::in_chart,
       [](const R& r, const J&) { return strongest(r); }},
      {"whole", "whole", Measure::in_chart, [](const R&, const J& p) { return part(p, "whole"); }},
      {"router alone", "router", Measure::in_chart,
       [](const R&, const J& p) { return part(p, "router"); }},
      {"experts alone", "experts", Measure::in_chart,
       [](const R&, const J& p) { return part(p, "experts"); }},
      {"jointly", "joint", Measure::in_chart,
       [](const R&, const J& p) { return part(p, "joint"); }},
      {"smallest expert %", "smallest_share", Measure::in_table,
       [](const R& r, const J&) { return pgd(r) ? report::smallest_share(*pgd(r)) : Value{}; }},
      {"routes moved %", "moved", Measure::in_table,
       [](const R& r, const J&) {
         return pgd(r) && pgd(r)->experts ? pgd(r)->experts->flip_rate : Value{};
       }},
  };
  return all;
}

void StudyResults::add(size_t row, report::Run run, ordered_json parts) {
  of_row_.at(row).push_back({runs_.size(), std::move(parts)});
  runs_.push_back(std::move(run));
}

std::vector<double> StudyResults::values(size_t row, const Measure& measure) const {
  std::vector<double> out;
  for (const Result& result : of_row_[row])
    if (const Value value = measure.of(runs_[result.run], result.parts)) out.push_back(*value);
  return out;
}

std::vector<const StudyResults::Measure*> StudyResults::measured() const {
  std::vector<const Measure*> out;
  for (const Measure& measure : measures())
    for (size_t row = 0; row < of_row_.size(); ++row)
      if (!values(row, measure).empty()) {
        out.push_back(&measure);
        break;
      }
  return out;
}

Table StudyResults::table() const {
  std::vector<Column> columns{{study_.name}, {"seeds", Align::right}};
  for (const Measure* m : measured()) columns.push_back({m->title, Align::right});
  Table table(columns);
  for (size_t row = 0; row < of_row_.size(); ++row) {
    std::vector<std::string> cells{study_.rows[row].name, std::to_string(of_row_[row].size())};
    for (const Measure* m : measured()) cells.push_back(with_spread(values(row, *m), 0));
    table.row(std::move(cells));
  }
  return table;
}

std::string StudyResults::note() const {
  std::set<std::string> protocols;
  for (const report::Run& run : runs_)
    for (const report::Evaluation& e : run.evaluations)
      protocols.insert(text(e.protocol, " on ", e.n, " images"));
  std::string out;
  for (const std::string& protocol : protocols) out += (out.empty() ? "" : ", ") + protocol;
  return out + "; ± is the standard deviation over the seeds\n";
}

ordered_json StudyResults::document() const {
  ordered_json rows = ordered_json::array();
  for (size_t row = 0; row < of_row_.size(); ++row) {
    ordered_json found{{"name", study_.rows[row].name}, {"about", study_.rows[row].about}};
    for (const Result& result : of_row_[row])
      found["runs"].push_back(runs_[result.run].folder.string());
    if (!of_row_[row].empty()) found["config"] = runs_[of_row_[row].front().run].config;
    for (const Measure* m : measured()) {
      const std::vector<double> all = values(row, *m);
      if (all.empty()) continue;
      const train::MeanDeviation spread = train::mean_deviation(all);
      found[m->key] = {{"values", all}, {"mean", spread.mean}, {"deviation", spread.deviation}};
    }
    rows.push_back(std::move(found));
  }
  return rows;
}

std::string StudyResults::chart() const {
  report::BarChart chart{study_.about, {}, {}};
  std::vector<const Measure*> shown = measured();
  std::erase_if(shown, [](const Measure* m) { return m->shown != Measure::in_chart; });
  for (const Measure* m : shown) chart.series.emplace_back(m->title);
  for (size_t row = 0; row < of_row_.size(); ++row) {
    report::BarGroup group{study_.rows[row].name, {}};
    for (const Measure* m : shown) {
      const std::vector<double> all = values(row, *m);
      const train::MeanDeviation spread = train::mean_deviation(all);
      report::Bar bar{spread.mean, {}, with_spread(all, 0) + " %"};
      if (all.size() > 1)
        bar.interval = {std::max(0.0, spread.mean - spread.deviation),
                        std::min(1.0, spread.mean + spread.deviation)};
      group.bars.push_back(std::move(bar));
    }
    chart.groups.push_back(std::move(group));
  }
  return report::standalone(report::bar_chart(chart));
}

}  // namespace moat::cli
