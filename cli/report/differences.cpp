#include "cli/report/differences.h"

#include <set>

#include "cli/number_format.h"
#include "cli/report/conditions.h"
#include "engine/error.h"

namespace moat::cli::report {

using engine::text;

namespace {

// What two evaluations must share to be compared image by image.
Conditions identity(const Evaluation& e) {
  Conditions out = ball_and_images(e);
  const auto model = JsonView(e.report, e.folder / "report.json").find("model");
  const auto bytes = model ? model->find("sha256") : std::nullopt;
  out.emplace_back("model", bytes ? bytes->json().dump() : text("unknown in ", e.folder.string()));
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

}  // namespace

std::vector<Difference> differences_of(const Run& run) {
  std::vector<Difference> out;
  for (size_t a = 0; a < run.evaluations.size(); ++a)
    for (size_t b = a + 1; b < run.evaluations.size(); ++b) {
      const Evaluation &first = run.evaluations[a], &second = run.evaluations[b];
      if (first.samples.empty() || first.samples.size() != second.samples.size() ||
          identity(first) != identity(second))
        continue;
      const std::set<int64_t> resist_first = robust_images(first),
                              resist_second = robust_images(second);
      out.push_back({&first, &second, missing_from(resist_second, resist_first),
                     missing_from(resist_first, resist_second)});
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
    table.row({d.first->protocol, percent(d.first->robust, d.first->n), d.second->protocol,
               percent(d.second->robust, d.second->n), listed(d.by_first_alone),
               listed(d.by_second_alone)});
  return table;
}

Json differences_json(const std::vector<Difference>& differences) {
  Json list = Json::array();
  for (const Difference& d : differences)
    list.push_back({{"first", d.first->protocol},
                    {"second", d.second->protocol},
                    {"by_first_alone", d.by_first_alone},
                    {"by_second_alone", d.by_second_alone}});
  return list;
}

}  // namespace moat::cli::report
