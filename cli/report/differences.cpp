#include "cli/report/differences.h"

#include <set>

#include "cli/number_format.h"
#include "cli/report/conditions.h"
#include "cli/report/recipe.h"
#include "engine/error.h"
#include "train/statistics.h"

namespace moat::cli::report {

using engine::text;

namespace {

// What two evaluations must share to be compared image by image.
Conditions identity(const Evaluation& e) {
  Conditions out = ball_and_images(e);
  const auto model = JsonView(e.report, e.folder / "report.json").find("model");
  const auto bytes = model ? model->find("sha256") : std::nullopt;
  out.emplace_back("model", bytes ? bytes->json().dump() : text("unknown in ", e.folder.string()));
  out.emplace_back("room", e.room);
  return out;
}

std::set<int64_t> robust_images(const Evaluation& e) {
  std::set<int64_t> robust;
  for (const SampleRow& row : e.samples)
    if (row.fooled_by.empty()) robust.insert(row.index);
  return robust;
}

std::vector<int64_t> missing_from(const std::set<int64_t>& some, const std::set<int64_t>& others) {
  std::vector<int64_t> out;
  for (int64_t i : some)
    if (!others.contains(i)) out.push_back(i);
  return out;
}

std::string listed(const std::vector<int64_t>& images) {
  constexpr size_t kMost = 12;
  std::string out = std::to_string(images.size());
  for (size_t i = 0; i < std::min(kMost, images.size()); ++i)
    out += text(i ? ", " : ": ", images[i]);
  return images.size() > kMost ? out + ", …" : out;
}

Difference difference(const Evaluation& first, const Evaluation& second) {
  const std::set<int64_t> resist_first = robust_images(first),
                          resist_second = robust_images(second);
  return {&first, &second, missing_from(resist_second, resist_first),
          missing_from(resist_first, resist_second)};
}

bool have_the_same_images(const Evaluation& a, const Evaluation& b) {
  return !a.samples.empty() && a.samples.size() == b.samples.size() &&
         ball_and_images(a) == ball_and_images(b);
}

const Run* partner_of(const Run& run, const SameRuns& group) {
  if (group.runs.size() == 1) return group.runs.front();
  const auto same = std::ranges::find_if(
      group.runs, [&](const Run* other) { return seed_of(*other) == seed_of(run); });
  return same == group.runs.end() ? nullptr : *same;
}

}  // namespace

std::vector<Difference> differences_of(const Run& run) {
  std::vector<Difference> out;
  for (size_t a = 0; a < run.evaluations.size(); ++a)
    for (size_t b = a + 1; b < run.evaluations.size(); ++b) {
      const Evaluation &first = run.evaluations[a], &second = run.evaluations[b];
      if (have_the_same_images(first, second) && identity(first) == identity(second))
        out.push_back(difference(first, second));
    }
  return out;
}

Table differences_table(const std::vector<Difference>& differences) {
  Table table({{"evaluation"},
               {"robust %", Align::right},
               {"beside"},
               {"robust %", Align::right},
               {"images that the first alone fools"},
               {"images that the second alone fools"}});
  for (const Difference& d : differences)
    table.row({d.first->title(), percent(d.first->robust, d.first->n), d.second->title(),
               percent(d.second->robust, d.second->n), listed(d.by_first_alone),
               listed(d.by_second_alone)});
  return table;
}

Json differences_json(const std::vector<Difference>& differences) {
  Json list = Json::array();
  for (const Difference& d : differences)
    list.push_back({{"first", d.first->title()},
                    {"second", d.second->title()},
                    {"by_first_alone", d.by_first_alone},
                    {"by_second_alone", d.by_second_alone}});
  return list;
}

std::vector<RunDifference> differences_between(const std::vector<SameRuns>& groups) {
  std::vector<RunDifference> out;
  for (size_t g = 1; g < groups.size(); ++g)
    for (const Run* run : groups[g].runs) {
      const Run* beside = partner_of(*run, groups[0]);
      if (!beside) continue;
      for (const Evaluation& first : run->evaluations)
        for (const Evaluation& second : beside->evaluations) {
          if (!groups[g].is_of(first) || !groups[0].is_of(second)) continue;
          if (first.protocol != second.protocol || !have_the_same_images(first, second)) continue;
          const Difference images = difference(first, second);
          out.push_back({groups[g].name, groups[0].name, seed_of(*run), images,
                         train::sign_test(std::ssize(images.by_first_alone),
                                          std::ssize(images.by_second_alone))});
        }
    }
  return out;
}

Table run_differences_table(const std::vector<RunDifference>& differences) {
  Table table({{"run"},
               {"seed", Align::right},
               {"beside"},
               {"protocol"},
               {"robust %", Align::right},
               {"beside it", Align::right},
               {"resist with the run alone", Align::right},
               {"with the other alone", Align::right},
               {"p", Align::right}});
  for (const RunDifference& d : differences)
    table.row({d.name, d.seed, d.beside, d.images.first->protocol,
               percent(d.images.first->robust, d.images.first->n),
               percent(d.images.second->robust, d.images.second->n),
               std::to_string(d.images.by_second_alone.size()),
               std::to_string(d.images.by_first_alone.size()), brief(d.p)});
  return table;
}

Json run_differences_json(const std::vector<RunDifference>& differences) {
  Json list = Json::array();
  for (const RunDifference& d : differences)
    list.push_back({{"run", d.name},
                    {"seed", d.seed},
                    {"beside", d.beside},
                    {"protocol", d.images.first->protocol},
                    {"images", d.images.first->n},
                    {"resist_with_run_alone", d.images.by_second_alone.size()},
                    {"resist_with_other_alone", d.images.by_first_alone.size()},
                    {"sign_test", d.p}});
  return list;
}

}  // namespace moat::cli::report
