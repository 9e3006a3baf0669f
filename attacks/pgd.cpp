#include "attacks/pgd.h"

#include <nlohmann/json.hpp>

#include "attacks/look_cost.h"
#include "attacks/random_points.h"
#include "engine/ops/elementwise.h"
#include "engine/random.h"

namespace moat::attacks {

using namespace engine;

const char* name_of(Start start) {
  switch (start) {
    case Start::center:
      return "center";
    case Start::uniform:
      return "uniform in ball and box";
    case Start::gaussian:
      return "0.001 N(0,1)";
    case Start::given:
      return "given";
  }
  return "unknown";
}

const char* name_of(Keep keep) {
  return keep == Keep::last ? "the last point" : "worst of all iterates and the start";
}

Pgd fgsm(const ThreatModel& threat) {
  return {.threat = threat, .steps = 1, .step = threat.eps, .start = Start::center};
}

int64_t most_passes(const Pgd& a, int routes) {
  return a.restarts * (a.steps * cost_with_gradient(a.objective, routes).passes() +
                       cost_without_gradient(a.objective, routes).passes());
}

Pgd sign_steps(const ThreatModel& threat, double auxiliary, int steps) {
  return {.threat = threat,
          .steps = steps,
          .step = threat.eps / steps,
          .start = Start::center,
          .objective = {.auxiliary = auxiliary},
          .keep = Keep::last};
}

nlohmann::ordered_json constants_of(const Pgd& a) {
  nlohmann::ordered_json json{{"steps", a.steps}, {"step", a.step}, {"restarts", a.restarts}};
  json.update(constants_of(a.objective));
  json.update({{"start", name_of(a.start)},
               {"momentum", a.momentum},
               {"keep", name_of(a.keep)},
               {"seed", a.seed}});
  return json;
}

namespace {

Tensor zeros_like(const Tensor& x) { return Tensor::zeros(x.shape(), x.dtype(), x.device()); }

Tensor start_point(const Victims& v, const Pgd& a, int restart) {
  const RandomKey key{.seed = a.seed,
                      .purpose = Purpose::attack_start,
                      .iteration = a.iteration,
                      .stream = a.stream + static_cast<uint32_t>(restart)};
  if (a.start == Start::uniform) return uniform_point(v, a.threat, key);
  Tensor x = v.images;
  if (a.start == Start::gaussian) x = add(x, random_normal(x.shape(), v.ids, key, 0, 0.001));
  if (a.start == Start::given) {
    require(v.start.defined(), "an attack from a given start needs the victims' start");
    x = v.start;
  }
  return ball_project(x, v.images, a.threat.norm, a.threat.eps);
}

BallStep ball_of(const Pgd& a) {
  return {.norm = a.threat.norm, .eps = a.threat.eps, .step = a.step, .momentum = a.momentum};
}

// What the draws of the objective at a point are keyed by.
RandomKey key_of(const Pgd& a, int number) {
  return {.seed = a.seed, .iteration = static_cast<uint32_t>(number)};
}

void count(AttackResult& result, const Probe& probe) {
  result.forwards += probe.forwards;
  result.backwards += probe.backwards;
}

AttackResult keep_last(const Model& model, const Victims& v, const Pgd& a) {
  AttackResult result;
  Tensor x = start_point(v, a, 0);
  const Tensor velocity = a.momentum > 0 ? zeros_like(x) : Tensor{};
  for (int i = 0; i < a.steps; ++i) {
    const Probe p = with_gradient(model, x, v, a.objective, key_of(a, i));
    count(result, p);
    x = ball_step(x, p.gradient, v.images, ball_of(a), velocity);
  }
  result.adversarial = x;
  return result;
}

}  // namespace

AttackResult pgd(const Model& model, const Victims& victims, const Pgd& a) {
  require(a.steps >= 0 && a.restarts >= 1 && a.threat.eps >= 0,
          "pgd: steps must be >= 0, restarts >= 1 and eps >= 0");
  if (a.keep == Keep::last) return keep_last(model, victims, a);
  AttackResult result;
  const WorstPoints worst = worst_points(victims.images);
  for (int restart = 0; restart < a.restarts; ++restart) {
    Survivors survivors(victims, worst);
    Tensor x = start_point(survivors.victims(), a, restart);
    Tensor velocity = a.momentum > 0 ? zeros_like(x) : Tensor{};
    for (int i = 0; i <= a.steps && survivors.size() > 0; ++i) {
      const bool is_last = i == a.steps;
      const int number = restart * (a.steps + 1) + i;
      const auto look = is_last ? without_gradient : with_gradient;
      Probe p = look(model, x, survivors.victims(), a.objective, key_of(a, number));
      count(result, p);
      survivors.look(x, p, number, {&x, &p.gradient, &velocity});
      if (!is_last) x = ball_step(x, p.gradient, survivors.victims().images, ball_of(a), velocity);
    }
  }
  result.adversarial = worst.points;
  result.fooled_at = worst.fooled_at.to_vector<int32_t>();
  return result;
}

}  // namespace moat::attacks
