#include "attacks/checks/checks.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <set>

#include "tests/broken_models.h"

namespace moat::tests {

using namespace engine;
using namespace attacks;

namespace {

constexpr ThreatModel kThreat{.norm = Norm::linf, .eps = 0.1};

std::string table_of(const std::vector<Check>& checks) {
  std::ostringstream out;
  for (const Check& c : checks)
    out << c.id << " " << name_of(c.status) << " " << c.value << " of " << c.threshold << ": "
        << c.meaning << "\n";
  return out.str();
}

const Check& find(const std::vector<Check>& checks, const std::string& id) {
  for (const Check& c : checks)
    if (c.id == id) return c;
  throw Error("no check " + id);
}

}  // namespace

TEST_CASE("checks: a sound dense model passes them all", "[checks]") {
  const TrainedDigits digits(dense_on_digits());
  const auto checks = run_checks(digits.model(), digits.victims, kThreat, 0);
  WARN(table_of(checks));
}

TEST_CASE("checks: a sound routed model passes them all", "[checks]") {
  const TrainedDigits digits(routed_on_digits());
  const auto checks = run_checks(digits.model(), digits.victims, kThreat, 0);
  WARN(table_of(checks));
}

TEST_CASE("checks: the gallery", "[checks]") {
  const TrainedDigits digits(dense_on_digits());
  const Model sound = digits.model();
  const std::pair<const char*, Model> gallery[] = {
      {"zero", zero_gradient(sound)},
      {"reversed", reversed_gradient(sound)},
      {"sparse", sparse_gradient(sound)},
      {"lattice", gradient_on_lattice(sound)},
      {"quantised", quantised(sound, Rounding::without_gradient)},
      {"quantised ste", quantised(sound, Rounding::straight_through)},
      {"scaled", scaled_logits(sound, 1000)},
      {"softmax", softmax_head(sound)},
      {"kwta", winners_take_all(sound, 8)},
      {"noise", noisy_input(sound, 0.1)},
      {"not finite", not_finite_on_white(sound)},
      {"sound", two_experts(sound, Routing::sound)},
      {"shattered", two_experts(sound, Routing::shattered)},
      {"without", two_experts(sound, Routing::without_gradient)},
      {"class", two_experts(sound, Routing::by_class)},
      {"limited", two_experts(sound, Routing::limited)}};
  for (const auto& [name, model] : gallery)
    WARN(name << "\n" << table_of(run_checks(model, digits.victims, kThreat, 0)));
}

}  // namespace moat::tests
