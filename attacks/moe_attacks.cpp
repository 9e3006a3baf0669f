#include "attacks/moe_attacks.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>

#include "engine/ops/shape.h"
#include "engine/tape.h"

namespace moat::attacks {

using namespace engine;

namespace {

AttackResult climb_with(const Model& model, const Victims& victims, const Pgd& settings) {
  return pgd(model, victims, settings);
}
AttackResult climb_with(const Model& model, const Victims& victims, const Apgd& settings) {
  return apgd(model, victims, settings);
}
AttackResult run(const Model& model, const Victims& victims, const Climb& climb) {
  return std::visit([&](const auto& settings) { return climb_with(model, victims, settings); },
                    climb);
}

// Points that it looks at of an image it does not fool.
int looks_of(const Pgd& settings) { return settings.restarts * (settings.steps + 1); }
int looks_of(const Apgd& settings) {
  return std::max(settings.targets, 1) * settings.restarts * (settings.steps + 1);
}
int looks_of(const Climb& climb) {
  return std::visit([](const auto& settings) { return looks_of(settings); }, climb);
}

nlohmann::ordered_json constants_of(const Climb& climb) {
  return std::visit([](const auto& settings) { return attacks::constants_of(settings); }, climb);
}

Objective& objective_of(Climb& climb) {
  return std::visit([](auto& settings) -> Objective& { return settings.objective; }, climb);
}

Climb along(Climb climb, Path path, Climbed climbed, Steer steer) {
  Objective& objective = objective_of(climb);
  objective.path = path;
  objective.climbed = climbed;
  objective.steer = steer;
  return climb;
}

struct Ranks {
  int from, to;
};
Ranks ranks_of(Routes routes, int all) {
  switch (routes) {
    case Routes::own:
      return {0, 1};
    case Routes::second:
      return {1, 2};
    case Routes::others:
      return {1, all};
    case Routes::each:
      return {0, all};
  }
  throw Error("unknown routes");
}

// The routes of each image by falling score, row by row; of equal ones the lowest comes first, and
// NaN counts as the largest, as argmax has it.
std::vector<int32_t> ranked(const Tensor& scores) {
  const int64_t n = scores.dim(0), routes = scores.dim(1);
  const std::vector<float> score = scores.to_vector<float>();
  std::vector<int32_t> order(score.size());
  for (int64_t i = 0; i < n; ++i) {
    const auto row = order.begin() + i * routes;
    std::iota(row, row + routes, 0);
    const auto at = [&](int32_t e) {
      const float s = score[static_cast<size_t>(i * routes + e)];
      return std::isnan(s) ? std::numeric_limits<float>::infinity() : s;
    };
    std::stable_sort(row, row + routes, [&](int32_t a, int32_t b) { return at(a) > at(b); });
  }
  return order;
}

// What climbs of the same images find, one after another.
class Findings {
 public:
  explicit Findings(const Victims& all) : all_(all) {
    result_.adversarial = all.images;
    result_.fooled_at.assign(static_cast<size_t>(all.size()), -1);
  }

  std::vector<int32_t> resisting() const {
    std::vector<int32_t> rows;
    for (int32_t i = 0; i < all_.size(); ++i)
      if (result_.fooled_at[static_cast<size_t>(i)] < 0) rows.push_back(i);
    return rounded_up(rows, all_.size(), all_.images.device());
  }

  // What was found of some of the rows; the first look of the climb has this number.
  void add(const AttackResult& found, const std::vector<int32_t>& rows, int number) {
    require(found.fooled_at.size() == rows.size(),
            "a stage of an attack must keep the worst point");
    result_.forwards += found.forwards;
    result_.backwards += found.backwards;
    std::vector<int32_t> taken, at;
    for (size_t i = 0; i < rows.size(); ++i) {
      int& fooled_at = result_.fooled_at[static_cast<size_t>(rows[i])];
      if (fooled_at >= 0 || (found.fooled_at[i] < 0 && !is_first_)) continue;
      if (found.fooled_at[i] >= 0) fooled_at = number + found.fooled_at[i];
      taken.push_back(static_cast<int32_t>(i));
      at.push_back(rows[i]);
    }
    is_first_ = false;
    if (taken.empty()) return;
    const Tensor index = index_of(taken, found.adversarial.device());
    result_.adversarial =
        replaced_rows(result_.adversarial, gather_rows(found.adversarial, index), at);
  }

  AttackResult& result() { return result_; }

 private:
  const Victims& all_;
  AttackResult result_;
  bool is_first_ = true;
};

}  // namespace

const char* name_of(Routes routes) {
  switch (routes) {
    case Routes::own:
      return "own";
    case Routes::second:
      return "second";
    case Routes::others:
      return "others by falling score";
    case Routes::each:
      return "each by falling score";
  }
  return "unknown";
}

RouteAttack frozen_route(Climb climb) {
  return {Routes::own, {}, along(climb, Path::given, Climbed::loss, Steer::away)};
}

RouteAttack second_route(Climb climb) {
  return {Routes::second, {}, along(climb, Path::given, Climbed::loss, Steer::away)};
}

RouteAttack every_route(Climb climb) {
  return {Routes::each, {}, along(climb, Path::given, Climbed::loss, Steer::away)};
}

RouteAttack router_only(Climb climb) {
  return {Routes::own, {}, along(climb, Path::own, Climbed::router, Steer::away)};
}

RouteAttack joint(Climb climb, double lambda) {
  objective_of(climb).lambda = lambda;
  return {Routes::own, {}, along(climb, Path::own, Climbed::both, Steer::away)};
}

RouteAttack steer_then_strike(Pgd steer, Pgd strike) {
  strike.start = Start::given;
  return {Routes::others, along(steer, Path::own, Climbed::router, Steer::towards), strike};
}

AttackResult route_attack(const Model& model, const Victims& all, const RouteAttack& a) {
  require(model.along && model.routes > 1, "an attack along routes needs a model with routes");
  const NoTapeScope not_recorded;
  const Tensor scores = model.forward(all.images, Gate::blocked).scores;
  require(scores.defined(), "an attack along routes needs a model with scores");
  const std::vector<int32_t> order = ranked(scores);
  Findings findings(all);
  findings.result().forwards = all.size();
  Tensor start = all.start;
  int number = 0;
  // Climbs along each resisting image's route of this rank; where it came to becomes `start`.
  const auto climb = [&](const Climb& stage, int rank) {
    const std::vector<int32_t> rows = findings.resisting();
    if (rows.empty()) return;
    Victims v = all.rows(rows);
    std::vector<int32_t> routes;
    for (int32_t row : rows)
      routes.push_back(order[static_cast<size_t>(row) * static_cast<size_t>(model.routes) +
                             static_cast<size_t>(rank)]);
    v.routes = index_of(routes, all.images.device());
    if (start.defined()) v.start = gather_rows(start, index_of(rows, all.images.device()));
    const AttackResult found = run(model, v, stage);
    findings.add(found, rows, number);
    number += looks_of(stage);
    start = replaced_rows(start.defined() ? start : all.images, found.adversarial, rows);
  };
  const Ranks ranks = ranks_of(a.routes, model.routes);
  for (int rank = ranks.from; rank < ranks.to; ++rank) {
    if (a.steer) climb(*a.steer, rank);
    climb(a.strike, rank);
    start = all.start;
  }
  return findings.result();
}

int64_t most_passes(const RouteAttack& a, int routes) {
  const auto passes = [&](const Climb& climb) {
    return std::visit([&](const auto& settings) { return attacks::most_passes(settings, routes); },
                      climb);
  };
  const Ranks ranks = ranks_of(a.routes, routes);
  return 1 + (ranks.to - ranks.from) * (passes(a.strike) + (a.steer ? passes(*a.steer) : 0));
}

nlohmann::ordered_json constants_of(const RouteAttack& a) {
  nlohmann::ordered_json json{{"routes", name_of(a.routes)}};
  if (a.steer) json["steer"] = constants_of(*a.steer);
  json["strike"] = constants_of(a.strike);
  return json;
}

}  // namespace moat::attacks
