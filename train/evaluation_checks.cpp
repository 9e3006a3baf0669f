#include "train/evaluation_checks.h"

#include <algorithm>

#include "attacks/checks/checks.h"
#include "train/objective.h"
#include "train/run_log.h"
#include "train/statistics.h"

namespace moat::train {

using namespace engine;
using attacks::Check;
using attacks::judged;

namespace {

// One minus the share of the least used expert, in shares of an equal part: 1 where one is idle.
double least_use(const Evaluation& e, int routes) {
  std::vector<int64_t> used(static_cast<size_t>(routes));
  for (const attacks::SampleResult& s : e.samples) ++used[static_cast<size_t>(s.clean_route)];
  const int64_t least = *std::min_element(used.begin(), used.end());
  return 1 - fraction(least * routes, std::ssize(e.samples));
}

}  // namespace

std::vector<Check> evaluation_checks(const Evaluation& e, const EvaluationSubject& on,
                                     const Verification& verified) {
  std::vector<Check> checks;
  const int64_t n = on.set.size();
  if (on.checks > 0 && on.threat.eps > 0 && n > 0) {
    const data::Batch some =
        data::batch_of(data::first_rows(on.set, on.checks)).to(on.model.device());
    checks = attacks::run_checks(attack_model(on.model), {some.images, some.labels, some.ids, {}},
                                 on.threat, on.seed);
  }
  checks.push_back(judged("G5", e.fingerprint_before == e.fingerprint_after ? 0 : 1));
  checks.push_back(judged("G6", fraction(verified.changed, n)));
  checks.push_back(judged("G7b", fraction(verified.outside_ball + verified.outside_box, n)));
  checks.push_back(judged("G8", fraction(verified.robust_as_bytes - e.robust_correct(on.set), n)));
  checks.push_back(judged("G29", on.selected_on == "test" ? 1 : 0));
  if (on.model.is_routed() && n > 0)
    checks.push_back(judged("M11", least_use(e, on.model.routes())));
  return checks;
}

nlohmann::ordered_json checks_json(const std::vector<Check>& checks) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const Check& c : checks)
    list.push_back({{"id", c.id + " " + c.title},
                    {"status", attacks::name_of(c.status)},
                    {"value", number_text(c.value)},
                    {"threshold", c.threshold},
                    {"explain", c.meaning},
                    {"next_action", c.next_action}});
  return list;
}

}  // namespace moat::train
