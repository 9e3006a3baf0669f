#include <algorithm>

#include "attacks/checks/subject.h"
#include "attacks/components.h"

namespace moat::attacks {

using namespace engine;

namespace {

constexpr int kMostExperts = 8;

int64_t count_robust(const AttackResult& result, const std::vector<int32_t>& clean,
                     const std::vector<int32_t>& labels) {
  int64_t robust = 0;
  for (size_t i = 0; i < labels.size(); ++i)
    robust += clean[i] == labels[i] && result.fooled_at[i] < 0;
  return robust;
}

}  // namespace

std::vector<Check> check_experts(const Subject& s) {
  const auto without = [](const std::string& reason) {
    return std::vector{skipped("M12", reason), skipped("M13", reason)};
  };
  if (!s.model.routed) return without("the model has no router");
  if (s.model.routes < 2 || !s.model.along) return without("the model does not route whole images");
  if (s.model.routes > kMostExperts)
    return without(text("more than ", kMostExperts, " ways to attack one by one"));

  const Pgd attack{.threat = s.threat, .steps = 20, .step = s.threat.eps / 4, .seed = s.seed};
  const std::vector<int> fooled = first_fooled(pgd_through_gates(s, attack));
  const int64_t robust = std::count(fooled.begin(), fooled.end(), -1);
  const auto n = static_cast<double>(s.all.size());

  const std::vector<int32_t> labels = s.all.labels.to_vector<int32_t>();
  int64_t best = 0;
  for (int route = 0; route < s.model.routes; ++route) {
    const Model expert = expert_alone(s.model, route);
    best = std::max(best, count_robust(pgd(expert, s.all, attack),
                                       ask(expert, s.all.images).predicted, labels));
  }
  const Check alone = judged("M12", static_cast<double>(best - robust) / n);
  if (s.model.is_soft) return {alone, skipped("M13", "a soft gate has no one route")};
  const std::vector<bool> kept = resist_with_frozen_router(s.model, s.right, attack).images;
  const int64_t on_own_route = std::count(kept.begin(), kept.end(), true);
  return {alone, judged("M13", static_cast<double>(robust - on_own_route) / n)};
}

}  // namespace moat::attacks
