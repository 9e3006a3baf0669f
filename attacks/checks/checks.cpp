#include "attacks/checks/checks.h"

#include <algorithm>

#include "attacks/checks/subject.h"

namespace moat::attacks {

using namespace engine;

namespace {

// "G2" before "G10", and those before "M1".
bool comes_before(const Check& a, const Check& b) {
  return std::pair(a.id[0], std::stoi(a.id.substr(1))) <
         std::pair(b.id[0], std::stoi(b.id.substr(1)));
}

}  // namespace

std::vector<Check> run_checks(const Model& model, const Victims& victims, const ThreatModel& threat,
                              uint64_t seed) {
  require(victims.size() > 0, "the checks need at least one image, got none");
  require(threat.eps > 0, [&] { return text("the checks need an eps above 0, got ", threat.eps); });
  const std::vector<int32_t> labels = victims.labels.to_vector<int32_t>(),
                             predicted = ask(model, victims.images).predicted;
  std::vector<int32_t> right;
  for (size_t i = 0; i < labels.size(); ++i)
    if (predicted[i] == labels[i]) right.push_back(static_cast<int32_t>(i));
  const Subject subject{
      .model = model, .all = victims, .right = victims.rows(right), .threat = threat, .seed = seed};

  std::vector<Check> checks = check_forward(subject);
  if (right.empty()) {
    for (const char* id : {"G7", "G9", "G10", "G11", "G12", "G13", "G14", "G15", "G16", "G17",
                           "G18", "G19", "G20", "M1", "M2", "M3", "M12", "M13", "M16"})
      checks.push_back(skipped(id, "no image is classified correctly"));
  } else {
    for (auto* family : {check_gradients, check_attacks, check_routing, check_experts}) {
      const std::vector<Check> found = family(subject);
      checks.insert(checks.end(), found.begin(), found.end());
    }
  }
  std::sort(checks.begin(), checks.end(), comes_before);
  return checks;
}

}  // namespace moat::attacks
