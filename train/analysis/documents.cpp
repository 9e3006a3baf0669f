#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "train/analysis/routes.h"
#include "train/statistics.h"

namespace moat::train {

using nlohmann::ordered_json;

namespace {

// Five quantiles of ascending values, by nearest rank; null of none.
ordered_json quantiles(const std::vector<double>& values) {
  if (values.empty()) return nullptr;
  ordered_json out = ordered_json::object();
  for (const auto& [name, at] :
       {std::pair{"min", 0.0}, {"q25", 0.25}, {"median", 0.5}, {"q75", 0.75}, {"max", 1.0}}) {
    const double rank = std::max(1.0, std::ceil(at * static_cast<double>(values.size())));
    const double value = values[static_cast<size_t>(rank) - 1];
    out[name] = std::isfinite(value) ? ordered_json(value) : ordered_json(nullptr);
  }
  return out;
}

// null where there is nothing.
ordered_json or_null(const std::optional<double>& value) {
  return value ? ordered_json(*value) : ordered_json(nullptr);
}
ordered_json share(const std::optional<int64_t>& count, int64_t images) {
  return count ? ordered_json(fraction(*count, images)) : ordered_json(nullptr);
}

ordered_json shares(const std::vector<int64_t>& counts, int64_t images) {
  ordered_json out = ordered_json::array();
  for (int64_t count : counts) out.push_back(fraction(count, images));
  return out;
}

}  // namespace

ordered_json to_json(const RouteAnalysis& a) {
  ordered_json conditions = ordered_json::array();
  for (const Condition& c : a.conditions) {
    ordered_json gates = ordered_json::array();
    for (const GateUse& g : c.gates) {
      gates.push_back({{"name", g.name},
                       {"use", g.use},
                       {"dropped", g.dropped},
                       {"entropy", g.entropy},
                       {"flipped", g.flipped},
                       {"overlap", g.overlap}});
      if (!g.moved.empty()) gates.back()["moved"] = g.moved;
    }
    conditions.push_back(
        {{"condition", c.name}, {"accuracy", fraction(c.correct, a.images)}, {"gates", gates}});
  }
  return {{"images", a.images},
          {"conditions", conditions},
          {"score_gap", quantiles(a.margins.gaps)},
          {"route_distance", quantiles(a.margins.distances)}};
}

ordered_json to_json(const ExpertTests& t, int64_t images) {
  return {{"alone", shares(t.alone, images)},
          {"dropped", shares(t.dropped, images)},
          {"swapped", fraction(t.swapped, images)},
          {"random", fraction(t.random, images)},
          {"jump", t.jump},
          {"weighted_jump", t.weighted_jump}};
}

ordered_json to_json(const JacobianNorms& n) {
  return {{"images", n.images}, {"free", n.free}, {"frozen", or_null(n.frozen)}};
}

ordered_json to_json(const ComponentRobustness& r, int64_t images) {
  return {{"whole", fraction(r.whole, images)},
          {"experts", share(r.experts, images)},
          {"router", share(r.router, images)},
          {"experts_true", fraction(r.experts_true, images)},
          {"router_true", fraction(r.router_true, images)},
          {"joint", fraction(r.joint, images)}};
}

}  // namespace moat::train
