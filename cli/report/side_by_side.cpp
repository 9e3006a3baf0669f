#include "cli/report/side_by_side.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <set>

#include "cli/number_format.h"
#include "cli/report/conditions.h"
#include "cli/report/recipe.h"
#include "engine/error.h"

namespace moat::cli::report {

using engine::text;

namespace {

struct Value {
  const Evaluation* from;
  double accuracy;
};

// One value of each run that has some, under conditions that are the same for all. `values_of` a
// run: those that would do.
template <class ValuesOf, class ConditionsOf>
Measured measured(const SameRuns& group, ValuesOf values_of, ConditionsOf conditions) {
  std::vector<std::vector<Value>> of_run;
  for (const Run* run : group.runs) {
    std::vector<Value> values = values_of(*run);
    std::erase_if(values, [&](const Value& v) { return !group.is_of(*v.from); });
    std::ranges::stable_sort(values, std::greater{}, [](const Value& v) { return v.from->n; });
    if (!values.empty()) of_run.push_back(std::move(values));
  }
  if (of_run.empty()) return {};
  std::string why;
  for (const Value& choice : of_run.front()) {
    Measured all{{}, choice.from};
    for (const std::vector<Value>& values : of_run) {
      const auto alike = std::ranges::find_if(
          values, [&](const Value& v) { return conditions(*v.from) == conditions(*choice.from); });
      if (alike != values.end())
        all.values.push_back(alike->accuracy);
      else if (why.empty())
        why = differing(conditions(*choice.from), conditions(*values.front().from));
    }
    if (all.values.size() == of_run.size()) return all;
  }
  return {{}, nullptr, why};
}

struct Measure {
  const char *title, *key;
  bool is_attacked;
  std::function<Measured(const SameRuns&)> of;
};
const std::vector<Measure>& measures() {
  const auto robust = [](const char* protocol) {
    return [protocol](const SameRuns& g) { return g.robust(protocol); };
  };
  const auto part = [](const char* attack) {
    return [attack](const SameRuns& g) { return g.alone("components@1", attack); };
  };
  static const std::vector<Measure> all = {
      {"SA %", "sa", false, [](const SameRuns& g) { return g.clean(); }},
      {"RA %, PGD-50", "ra_pgd_50", true, robust("pgd-50@1")},
      {"RA %, sign-40", "ra_sign_40", true, robust("sign-40@1")},
      {"AA %", "aa", true, robust("aa-standard@1")},
      {"MoE-AA %", "moe_aa", true, robust("moe-aa@1")},
      {"RA-E %", "ra_e", true, part("experts (RA-E)")},
      {"RA-R %", "ra_r", true, part("router (RA-R)")}};
  return all;
}

// Those of the attacks in a row.
std::string balls(const SameRuns& g) {
  std::vector<std::string> all;
  for (const Measure& m : measures()) {
    const Evaluation* like = m.is_attacked ? m.of(g).like : nullptr;
    if (like && std::ranges::find(all, like->ball()) == all.end()) all.push_back(like->ball());
  }
  std::string out;
  for (const std::string& ball : all) out += (out.empty() ? "" : ", ") + ball;
  return out.empty() ? "–" : out;
}

}  // namespace

Measured SameRuns::clean() const {
  std::string beside;  // the protocol whose accuracy is shown beside
  for (const char* protocol : {"pgd-50@1", "aa-standard@1", "moe-aa@1", "sign-40@1"})
    if (beside.empty() && robust(protocol).like) beside = protocol;
  const auto values = [&](const Run& run) {
    std::vector<Value> out;
    for (const Evaluation& e : run.evaluations)
      if (beside.empty() || e.protocol == beside) out.push_back({&e, e.clean});
    return out;
  };
  return measured(*this, values, clean_conditions_of);
}

Measured SameRuns::robust(const std::string& protocol) const {
  const auto values = [&](const Run& run) {
    std::vector<Value> out;
    for (const Evaluation& e : run.evaluations)
      if (e.protocol == protocol) out.push_back({&e, e.robust});
    return out;
  };
  return measured(*this, values, conditions_of);
}

Measured SameRuns::alone(const std::string& protocol, const std::string& attack) const {
  const auto values = [&](const Run& run) {
    std::vector<Value> out;
    for (const Evaluation& e : run.evaluations)
      for (const auto& [by, accuracy] : e.alone)
        if (e.protocol == protocol && by == attack) out.push_back({&e, accuracy});
    return out;
  };
  return measured(*this, values, conditions_of);
}

std::vector<double> SameRuns::passes_per_second() const {
  std::vector<double> out;
  for (const Run* run : runs)
    for (const Evaluation& e : run->evaluations) {
      if (!is_of(e)) continue;
      const auto cost = JsonView(e.report, e.folder / "report.json").find("cost");
      const double passes =
          cost ? cost->number_or("forward", NAN) + cost->number_or("backward", NAN) : NAN;
      if (passes > 0 && e.seconds > 0) out.push_back(passes / e.seconds);
    }
  return out;
}

namespace {

// Of the largest evaluation; 0 without any.
int64_t most_images(const Run& run) {
  int64_t n = 0;
  for (const Evaluation& e : run.evaluations) n = std::max(n, e.n);
  return n;
}

// "RA %, PGD-50: of 5 images for dense, of up to 60 for others": where a column's rows differ.
std::vector<std::string> notes_on_images(const std::vector<SameRuns>& groups) {
  std::vector<std::string> notes;
  for (const Measure& m : measures()) {
    std::map<int64_t, std::string> rows;  // by number of images
    for (const SameRuns& group : groups)
      if (const Evaluation* like = m.of(group).like) {
        std::string& names = rows[like->n];
        names += (names.empty() ? "" : ", ") + group.name;
      }
    if (rows.size() < 2) continue;
    const int64_t most = rows.rbegin()->first;
    rows.erase(most);
    std::string fewer;
    for (const auto& [n, names] : rows)
      fewer += text("of ", n, n == 1 ? " image" : " images", " for ", names, ", ");
    notes.push_back(text(m.title, ": ", fewer, "of up to ", most, " for others."));
  }
  return notes;
}

std::vector<SameRuns> by_room(const SameRuns& group) {
  std::set<std::string> rooms;
  for (const Run* run : group.runs)
    for (const Evaluation& e : run->evaluations) rooms.insert(e.room);
  if (rooms.empty()) return {group};
  std::vector<SameRuns> out;
  for (const std::string& room : rooms) {
    out.push_back(group);
    out.back().room = room;
    if (rooms.size() > 1 && !room.empty()) out.back().name += ", " + room;
  }
  return out;
}

}  // namespace

std::vector<SameRuns> same_runs(const std::vector<Run>& runs) {
  std::vector<SameRuns> groups;
  std::vector<std::string> recipes;  // of the groups
  for (const Run& run : runs) {
    const std::string mine = recipe_of(run);
    const auto same = std::ranges::find(recipes, mine);
    if (same != recipes.end()) {
      SameRuns& group = groups[static_cast<size_t>(same - recipes.begin())];
      const auto there = std::ranges::find_if(
          group.runs, [&](const Run* other) { return seed_of(*other) == seed_of(run); });
      if (there == group.runs.end()) {
        group.runs.push_back(&run);
        group.name = text(group.method, " · ", group.model);
        continue;
      }
      const Run* repeated = &run;
      if (most_images(run) > most_images(**there)) {
        std::swap(repeated, *there);
        if (group.runs.size() == 1) group.name = run.name;
      }
      group.repeated.push_back(repeated);
      continue;
    }
    const JsonView config(run.config, run.folder / "config.json");
    const auto data = config.find("data"), train = config.find("train");
    recipes.push_back(mine);
    groups.push_back({{&run},
                      run.name,
                      run.method,
                      run.model,
                      data ? data->str_or("name", "") : "",
                      train ? train->number_or("eps", NAN) : NAN,
                      run.parameters,
                      run.macs});
  }
  std::vector<SameRuns> all;
  for (const SameRuns& group : groups) std::ranges::move(by_room(group), std::back_inserter(all));
  return all;
}

Table side_by_side_table(const std::vector<SameRuns>& groups) {
  std::vector<const Measure*> shown;
  for (const Measure& m : measures())
    if (std::ranges::any_of(groups, [&](const SameRuns& g) {
          const Measured measured = m.of(g);
          return !measured.values.empty() || !measured.differing.empty();
        }))
      shown.push_back(&m);
  std::set<std::string> of_rows;
  for (const SameRuns& g : groups) of_rows.insert(balls(g));
  of_rows.erase("–");
  const bool one_ball = of_rows.size() <= 1;
  std::vector<Column> columns{{"configuration"}, {"seeds", Align::right}};
  if (!one_ball) columns.push_back({"within"});
  for (const Measure* m : shown) columns.push_back({m->title, Align::right});
  for (const char* title : {"parameters", "MACs/image", "passes/s"})
    columns.push_back({title, Align::right});
  Table table(columns);
  for (const SameRuns& g : groups) {
    std::vector<std::string> cells{g.name, std::to_string(g.runs.size())};
    if (!one_ball) cells.push_back(balls(g));
    for (const Measure* m : shown) {
      const Measured found = m->of(g);
      cells.push_back(with_spread(found.values, found.like ? found.like->n : 0));
    }
    cells.push_back(count(g.parameters));
    cells.push_back(count(g.macs));
    cells.push_back(count(train::mean_deviation(g.passes_per_second()).mean));
    table.row(std::move(cells));
  }
  return table;
}

std::vector<std::string> side_by_side_notes(const std::vector<SameRuns>& groups) {
  std::vector<std::string> notes = notes_on_images(groups);
  for (const SameRuns& g : groups) {
    for (const Run* run : g.runs)
      if (!run->unfinished.empty())
        notes.push_back(text("'", run->folder.string(), "', seed ", seed_of(*run), " of ", g.name,
                             ", is ", run->unfinished, "."));
    for (const Run* run : g.repeated)
      notes.push_back(text("'", run->folder.string(), "' is seed ", seed_of(*run), " of ", g.name,
                           " once more and is not counted; of equal seeds the run with ",
                           "an evaluation of the most images is."));
    for (const Measure& m : measures()) {
      const Measured measured = m.of(g);
      if (!measured.differing.empty())
        notes.push_back(text("No ", m.title, " of ", g.name, ": its seeds' evaluations differ in ",
                             measured.differing, "."));
      else if (!measured.values.empty() && measured.values.size() < g.runs.size())
        notes.push_back(text(m.title, " of ", g.name, " is of ", measured.values.size(), " of its ",
                             g.runs.size(), " seeds; the others have none."));
    }
  }
  return notes;
}

Json side_by_side_json(const std::vector<SameRuns>& groups) {
  Json list = Json::array();
  for (const SameRuns& g : groups) {
    Json row{{"name", g.name}, {"method", g.method}, {"model", g.model}, {"seeds", g.runs.size()}};
    if (!g.room.empty()) row["room"] = g.room;
    for (const Measure& m : measures()) {
      const Measured measured = m.of(g);
      if (measured.values.empty()) continue;
      const train::MeanDeviation all = train::mean_deviation(measured.values);
      const Evaluation& like = *measured.like;
      row[m.key] = {{"values", measured.values},
                    {"mean", all.mean},
                    {"deviation", all.deviation},
                    {"norm", like.norm},
                    {"eps", std::isnan(like.eps) ? Json(nullptr) : Json(like.eps)},
                    {"n", like.n}};
    }
    list.push_back(row);
  }
  return list;
}

}  // namespace moat::cli::report
