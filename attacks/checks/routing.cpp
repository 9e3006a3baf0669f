#include <algorithm>
#include <cmath>
#include <map>

#include "attacks/checks/subject.h"
#include "attacks/components.h"
#include "attacks/random_points.h"

namespace moat::attacks {

using namespace engine;

namespace {

// M1: the part of the gradient that flows through the gate is what blocking takes away.
double share_without_gate_gradient(const Subject& s) {
  const auto gradient = [&](Gate gate) {
    return with_gradient(s.model, s.right.images, s.right, {.loss = Loss::margin, .gate = gate})
        .gradient.to_vector<float>();
  };
  const auto open = gradient(Gate::open), blocked = gradient(Gate::blocked);
  const auto n = static_cast<size_t>(s.right.size());
  const size_t pixels = open.size() / n;
  int64_t same = 0;
  for (size_t i = 0; i < n; ++i)
    same += std::equal(open.begin() + static_cast<int64_t>(i * pixels),
                       open.begin() + static_cast<int64_t>((i + 1) * pixels),
                       blocked.begin() + static_cast<int64_t>(i * pixels));
  return static_cast<double>(same) / static_cast<double>(n);
}

// M2.
double share_near_boundary(const Subject& s) {
  const std::vector<double> distances = route_distances(s.model, s.right, s.threat.norm);
  const auto near =
      std::count_if(distances.begin(), distances.end(), [&](double r) { return r < s.threat.eps; });
  return static_cast<double>(near) / static_cast<double>(distances.size());
}

double share_of_flips(const std::vector<int32_t>& before, const std::vector<int32_t>& after) {
  int64_t flips = 0;
  for (size_t i = 0; i < before.size(); ++i) flips += before[i] != after[i];
  return static_cast<double>(flips) / static_cast<double>(before.size());
}

Check route_flips(const Subject& s, const std::vector<int32_t>& clean) {
  const RandomKey key{.seed = s.seed, .purpose = Purpose::attack_query};
  const double by_noise =
      share_of_flips(clean, ask(s.model, extreme_point(s.right, s.threat, key)).routes);
  double by_pgd = 0;
  for (const AttackResult& found :
       pgd_through_gates(s, {.threat = s.threat, .steps = 10, .step = s.threat.eps / 4}))
    by_pgd = std::max(by_pgd, share_of_flips(clean, ask(s.model, found.adversarial).routes));
  Check check = judged("M3", std::max(by_noise, by_pgd));
  check.meaning += text("; by noise alone ", by_noise);
  return check;
}

// M16: I(route; label) / H(route) over the images.
double explained_by_label(const std::vector<int32_t>& routes, const std::vector<int32_t>& labels) {
  std::map<int32_t, double> route, label;
  std::map<std::pair<int32_t, int32_t>, double> both;
  const double each = 1 / static_cast<double>(routes.size());
  for (size_t i = 0; i < routes.size(); ++i) {
    route[routes[i]] += each;
    label[labels[i]] += each;
    both[{routes[i], labels[i]}] += each;
  }
  double entropy = 0, shared = 0;
  for (const auto& [r, p] : route) entropy -= p * std::log(p);
  for (const auto& [key, p] : both)
    shared += p * std::log(p / (route[key.first] * label[key.second]));
  return entropy > 0 ? shared / entropy : 0;
}

}  // namespace

std::vector<Check> check_routing(const Subject& s) {
  if (!s.model.routed) {
    const std::string dense = "the model has no router";
    return {skipped("M1", dense), skipped("M2", dense), skipped("M3", dense),
            skipped("M16", dense)};
  }
  const Outputs out = s.model.forward(s.all.images, Gate::blocked);
  std::vector<Check> checks = {judged("M1", share_without_gate_gradient(s))};
  const std::string hidden = "the model does not say which way an image takes";
  if (!out.experts.defined()) {
    for (const char* id : {"M2", "M3", "M16"}) checks.push_back(skipped(id, hidden));
    return checks;
  }
  const bool can_tell = out.scores.defined() && out.scores.rank() == 2 &&
                        out.scores.dim(1) == s.model.routes && s.model.routes > 1;
  checks.push_back(can_tell ? judged("M2", share_near_boundary(s))
                            : skipped("M2", "no score per route"));
  checks.push_back(route_flips(s, ask(s.model, s.right.images).routes));
  checks.push_back(judged("M16", explained_by_label(out.experts.to_vector<int32_t>(),
                                                    s.all.labels.to_vector<int32_t>())));
  return checks;
}

}  // namespace moat::attacks
