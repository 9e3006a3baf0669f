#include "cli/report/side_by_side.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "cli/number_format.h"
#include "engine/error.h"

namespace moat::cli::report {

using engine::text;

namespace {

// The configuration without what may differ between seeds.
std::string recipe(const Run& run) {
  Json config = run.config;
  for (const char* other : {"run", "eval", "tool", "machine"}) config.erase(other);
  return config.dump();
}

// The evaluation of the most images.
const Evaluation& largest(const Run& run) {
  return *std::max_element(run.evaluations.begin(), run.evaluations.end(),
                           [](const Evaluation& a, const Evaluation& b) { return a.n < b.n; });
}

struct Measure {
  const char *title, *key;
  std::function<std::vector<double>(const SameRuns&)> values;
};
const std::vector<Measure>& measures() {
  const auto robust = [](const char* protocol) {
    return [protocol](const SameRuns& g) { return g.robust(protocol); };
  };
  const auto part = [](const char* attack) {
    return [attack](const SameRuns& g) { return g.alone("components@1", attack); };
  };
  static const std::vector<Measure> all = {
      {"SA %", "sa", [](const SameRuns& g) { return g.clean(); }},
      {"RA %, PGD-50", "ra_pgd_50", robust("pgd-50@1")},
      {"AA %", "aa", robust("aa-standard@1")},
      {"MoE-AA %", "moe_aa", robust("moe-aa@1")},
      {"RA-E %", "ra_e", part("experts (RA-E)")},
      {"RA-R %", "ra_r", part("router (RA-R)")}};
  return all;
}

}  // namespace

std::vector<double> SameRuns::clean() const {
  std::vector<double> out;
  for (const Run* run : runs)
    if (!run->evaluations.empty()) out.push_back(largest(*run).clean);
  return out;
}

std::vector<double> SameRuns::robust(const std::string& protocol) const {
  std::vector<double> out;
  for (const Run* run : runs)
    for (const Evaluation& e : run->evaluations)
      if (e.protocol == protocol) out.push_back(e.robust);
  return out;
}

std::vector<double> SameRuns::alone(const std::string& protocol, const std::string& attack) const {
  std::vector<double> out;
  for (const Run* run : runs)
    for (const Evaluation& e : run->evaluations)
      for (const auto& [by, accuracy] : e.alone)
        if (e.protocol == protocol && by == attack) out.push_back(accuracy);
  return out;
}

std::vector<double> SameRuns::passes_per_second() const {
  std::vector<double> out;
  for (const Run* run : runs)
    for (const Evaluation& e : run->evaluations) {
      const auto cost = JsonView(e.report, e.folder / "report.json").find("cost");
      const double passes =
          cost ? cost->number_or("forward", NAN) + cost->number_or("backward", NAN) : NAN;
      if (passes > 0 && e.seconds > 0) out.push_back(passes / e.seconds);
    }
  return out;
}

int64_t SameRuns::images() const {
  for (const Run* run : runs)
    if (!run->evaluations.empty()) return largest(*run).n;
  return 0;
}

std::vector<SameRuns> same_runs(const std::vector<Run>& runs) {
  std::vector<SameRuns> groups;
  for (const Run& run : runs) {
    const std::string mine = recipe(run);
    const auto same = std::find_if(groups.begin(), groups.end(), [&](const SameRuns& g) {
      return recipe(*g.runs.front()) == mine;
    });
    if (same != groups.end()) {
      same->runs.push_back(&run);
      same->name = text(same->method, " · ", same->model);
      continue;
    }
    const JsonView config(run.config, run.folder / "config.json");
    const auto data = config.find("data"), train = config.find("train");
    groups.push_back({{&run},
                      run.name,
                      run.method,
                      run.model,
                      data ? data->str_or("name", "") : "",
                      train ? train->number_or("eps", NAN) : NAN,
                      run.parameters,
                      run.macs});
  }
  return groups;
}

Table side_by_side_table(const std::vector<SameRuns>& groups) {
  std::vector<const Measure*> shown;
  for (const Measure& m : measures())
    if (std::any_of(groups.begin(), groups.end(),
                    [&](const SameRuns& g) { return !m.values(g).empty(); }))
      shown.push_back(&m);
  std::vector<Column> columns{{"configuration"}, {"seeds", Align::right}};
  for (const Measure* m : shown) columns.push_back({m->title, Align::right});
  for (const char* title : {"parameters", "MACs/image", "passes/s"})
    columns.push_back({title, Align::right});
  Table table(columns);
  for (const SameRuns& g : groups) {
    std::vector<std::string> cells{g.name, std::to_string(g.runs.size())};
    for (const Measure* m : shown) cells.push_back(with_spread(m->values(g), g.images()));
    cells.push_back(count(g.parameters));
    cells.push_back(count(g.macs));
    cells.push_back(count(train::mean_deviation(g.passes_per_second()).mean));
    table.row(std::move(cells));
  }
  return table;
}

Json side_by_side_json(const std::vector<SameRuns>& groups) {
  Json list = Json::array();
  for (const SameRuns& g : groups) {
    Json row{{"name", g.name}, {"method", g.method}, {"model", g.model}, {"seeds", g.runs.size()}};
    for (const Measure& m : measures()) {
      const std::vector<double> values = m.values(g);
      if (values.empty()) continue;
      const train::MeanDeviation all = train::mean_deviation(values);
      row[m.key] = {{"values", values}, {"mean", all.mean}, {"deviation", all.deviation}};
    }
    list.push_back(row);
  }
  return list;
}

}  // namespace moat::cli::report
