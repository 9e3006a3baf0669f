#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "train/analysis/routes.h"
#include "train/analysis/tokens.h"
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

ordered_json to_json(const TokenMoves& t) {
  return {{"overlap_before_capacity", t.overlap},
          {"first_moved", t.first},
          {"first_moved_of_class_tokens", t.first_of_class},
          {"margin", std::isfinite(t.margin) ? ordered_json(t.margin) : ordered_json(nullptr)}};
}

ordered_json to_json(const Correct& c, int64_t images) {
  return {{"clean", fraction(c.clean, images)}, {"attacked", fraction(c.attacked, images)}};
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
      if (g.tokens) gates.back()["tokens"] = to_json(*g.tokens);
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

ordered_json to_json(const TokenTests& t, int64_t images) {
  ordered_json layers = ordered_json::array();
  for (const LayerTests& l : t.layers) {
    layers.push_back({{"name", l.name},
                      {"dropped", to_json(l.dropped, images)},
                      {"next", to_json(l.next, images)},
                      {"random", to_json(l.random, images)},
                      {"replayed_choices", to_json(l.choices, images)},
                      {"replayed_routes", to_json(l.routes, images)},
                      {"jump", or_null(l.jump)}});
  }
  return {{"as_it_is", to_json(t.as_it_is, images)}, {"layers", layers}};
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
