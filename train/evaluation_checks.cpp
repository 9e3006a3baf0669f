#include "train/evaluation_checks.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

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

// M4 … M8: what was fooled by the attacks that name them, and by nothing before.
void judge_stages(const Evaluation& e, std::vector<Check>& checks) {
  std::map<std::string, int64_t> found;
  for (size_t a = 0; a < e.protocol.attacks.size(); ++a)
    if (const std::string& check = e.protocol.attacks[a].check; !check.empty())
      found[check] += std::count_if(
          e.samples.begin(), e.samples.end(),
          [&](const attacks::SampleResult& s) { return s.fooled_by == static_cast<int>(a); });
  for (const char* id : {"M4", "M5", "M6", "M7", "M8"})
    checks.push_back(found.contains(id) ? judged(id, fraction(found[id], std::ssize(e.samples)))
                                        : attacks::skipped(id, "moe-aa@1 has the attack"));
}

// G22, by what the attacks say they aim at.
Check judge_aims(const attacks::Protocol& protocol) {
  bool targeted = false, untargeted = false;
  const nlohmann::ordered_json constants = attacks::constants_of(protocol);
  for (const auto& attack : constants.at("attacks")) {
    const auto targets = attack.find("targets");
    const bool aims = targets != attack.end() && targets->is_number() && *targets > 0;
    (aims ? targeted : untargeted) = true;
  }
  return judged("G22", targeted && untargeted ? 0 : 1);
}

}  // namespace

std::vector<Check> evaluation_checks(const Evaluation& e, const EvaluationSubject& on,
                                     const Verification& verified,
                                     const attacks::ChecksProgress& progress) {
  std::vector<Check> checks;
  const int64_t n = on.set.size();
  if (on.checks > 0 && on.threat.eps > 0 && n > 0) {
    const data::Batch some =
        data::batch_of(data::first_rows(on.set, on.checks)).to(on.model.device());
    checks = attacks::run_checks(attack_model(on.model), {some.images, some.labels, some.ids, {}},
                                 on.threat, on.seed, progress);
  }
  checks.push_back(judged("G5", e.fingerprint_before == e.fingerprint_after ? 0 : 1));
  checks.push_back(judged("G6", verified.contradicted > 0 ? 1 : fraction(verified.changed, n)));
  checks.push_back(judged("G7b", fraction(verified.outside_ball + verified.outside_box, n)));
  checks.push_back(judged("G8", fraction(verified.robust_as_bytes - e.robust_correct(on.set), n)));
  checks.push_back(judge_aims(e.protocol));
  checks.push_back(on.selected_on == "unknown"
                       ? attacks::skipped("G29", "the checkpoint says which split chose it")
                       : judged("G29", on.selected_on == "test" ? 1 : 0));
  if (on.model.is_routed() && n > 0)
    checks.push_back(judged("M11", least_use(e, on.model.routes())));
  if (on.model.is_routed()) judge_stages(e, checks);
  return checks;
}

nlohmann::ordered_json checks_json(const std::vector<Check>& checks) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const Check& c : checks) {
    list.push_back({{"id", c.id + " " + c.title},
                    {"status", attacks::name_of(c.status)},
                    {"value", number_text(c.value)},
                    {"threshold", c.threshold},
                    {"explain", c.meaning},
                    {"next_action", c.next_action}});
    if (!c.curve.empty()) list.back()["curve"] = c.curve;
  }
  return list;
}

}  // namespace moat::train
