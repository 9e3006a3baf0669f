#include "attacks/noise.h"

#include <nlohmann/json.hpp>

#include "attacks/random_points.h"

namespace moat::attacks {

using namespace engine;

int64_t most_passes(const Noise& a, int) { return int64_t{a.uniform_draws} + a.extreme_draws; }

nlohmann::ordered_json constants_of(const Noise& a) {
  return {{"uniform draws", a.uniform_draws},
          {"extreme draws", a.extreme_draws},
          {"loss", name_of(Loss::margin)},
          {"keep", "first misclassified point, else largest margin"},
          {"seed", a.seed}};
}

AttackResult noise(const Model& model, const Victims& victims, const Noise& a) {
  require(a.uniform_draws >= 0 && a.extreme_draws >= 0 && a.threat.eps >= 0,
          "noise: numbers of draws and eps must be >= 0");
  AttackResult result;
  const WorstPoints worst = worst_points(victims.images);
  Survivors survivors(victims, worst);
  const int draws = a.uniform_draws + a.extreme_draws;
  for (int draw = 0; draw < draws && survivors.size() > 0; ++draw) {
    const RandomKey key{
        .seed = a.seed, .purpose = Purpose::attack_query, .iteration = static_cast<uint32_t>(draw)};
    const Tensor x = draw < a.uniform_draws ? uniform_point(survivors.victims(), a.threat, key)
                                            : extreme_point(survivors.victims(), a.threat, key);
    const Probe p = without_gradient(model, x, survivors.victims(), {.loss = Loss::margin});
    result.forwards += survivors.size();
    survivors.look(x, p, draw, {});
  }
  result.adversarial = worst.points;
  result.fooled_at = worst.fooled_at.to_vector<int32_t>();
  return result;
}

}  // namespace moat::attacks
