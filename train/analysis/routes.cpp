#include "train/analysis/routes.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <set>

#include "attacks/components.h"
#include "attacks/moe_attacks.h"
#include "attacks/random_points.h"
#include "engine/ops/reduce.h"
#include "engine/tape.h"
#include "train/analysis/batches.h"
#include "train/objective.h"
#include "train/statistics.h"

namespace moat::train {

using namespace engine;
using attacks::Gate;
using attacks::Pgd;

namespace {

// The experts of each unit (an image, or a token) at one gate: [units][choices], -1 for dropped.
struct Choices {
  std::vector<int32_t> experts;
  size_t active = 1;
  size_t units() const { return experts.size() / active; }
  std::set<int32_t> set_of(size_t unit) const {
    std::set<int32_t> out;
    for (size_t k = 0; k < active; ++k)
      if (const int32_t e = experts[unit * active + k]; e >= 0) out.insert(e);
    return out;
  }
};

// And what there is besides of tokens, so many of each image.
struct SeenGate {
  Choices placed;
  size_t tokens = 0;            // 0: of a router
  Choices chosen;               // whether or not they found room
  std::vector<double> margins;  // [units]
};

struct Seen {
  std::vector<int32_t> predicted;
  std::vector<SeenGate> gates;
};

Seen look(const models::Classifier& model, const Tensor& images) {
  const NoTapeScope not_recorded;
  const models::Prediction p = model.forward(images, Mode::eval);
  Seen seen{argmax(p.logits, 1).to_vector<int32_t>(), {}};
  if (p.experts.defined())
    seen.gates.push_back(
        {.placed = {p.experts.to_vector<int32_t>(), 1}, .chosen = {}, .margins = {}});
  for (size_t l = 0; l < p.tokens.experts.size(); ++l) {
    const Tensor& placed = p.tokens.experts[l];
    const auto active = static_cast<size_t>(placed.dim(2));
    seen.gates.push_back({.placed = {placed.to_vector<int32_t>(), active},
                          .tokens = static_cast<size_t>(placed.dim(1)),
                          .chosen = {p.tokens.chosen[l].to_vector<int32_t>(), active},
                          .margins = p.tokens.margins[l].to(Dtype::f64).to_vector<double>()});
  }
  return seen;
}

double overlap(const std::set<int32_t>& a, const std::set<int32_t>& b) {
  if (a.empty() && b.empty()) return 1;
  const auto both = std::count_if(a.begin(), a.end(), [&](int32_t e) { return b.contains(e); });
  return static_cast<double>(both) / static_cast<double>(std::ssize(a) + std::ssize(b) - both);
}

// Sums of a gate's units so far.
struct Tally {
  GateUse use;
  int64_t units = 0, flips = 0;
  double overlaps = 0;
  // Of tokens:
  int64_t images = 0, firsts = 0, class_firsts = 0;
  double wished_overlaps = 0, margins = 0;

  void add(const SeenGate& clean_gate, const SeenGate& gate) {
    const Choices &clean = clean_gate.placed, &now = gate.placed;
    for (int32_t e : now.experts) e < 0 ? ++use.dropped : ++use.use[static_cast<size_t>(e)];
    for (size_t u = 0; u < now.units(); ++u) {
      const std::set<int32_t> before = clean.set_of(u), after = now.set_of(u);
      flips += before != after;
      overlaps += overlap(before, after);
      if (gate.tokens == 0)
        ++use.moved[static_cast<size_t>(clean.experts[u])][static_cast<size_t>(now.experts[u])];
    }
    units += static_cast<int64_t>(now.units());
    if (gate.tokens > 0) add_tokens(clean_gate, gate);
  }
  void add_tokens(const SeenGate& clean, const SeenGate& now) {
    const size_t active = now.chosen.active;
    for (size_t u = 0; u < now.chosen.units(); ++u) {
      const bool is_class = u % now.tokens == 0,
                 moved = clean.chosen.experts[u * active] != now.chosen.experts[u * active];
      firsts += moved;
      class_firsts += moved && is_class;
      images += is_class;
      wished_overlaps += overlap(clean.chosen.set_of(u), now.chosen.set_of(u));
      margins += now.margins[u];
    }
  }
  GateUse result() const {
    GateUse out = use;
    out.entropy = normalized_entropy(use.use);
    out.flipped = fraction(flips, units);
    out.overlap = units ? overlaps / static_cast<double>(units) : 1;
    if (images > 0)
      out.tokens = TokenMoves{.overlap = wished_overlaps / static_cast<double>(units),
                              .first = fraction(firsts, units),
                              .first_of_class = fraction(class_firsts, images),
                              .margin = margins / static_cast<double>(units)};
    return out;
  }
};

struct Attacked {
  std::string name;
  std::function<Tensor(const attacks::Model&, const attacks::Victims&)> points;
};

std::vector<Attacked> conditions_for(const models::Classifier& model, const AnalysisSettings& on) {
  using attacks::Victims;
  std::vector<Attacked> all = {
      {"clean", [](const attacks::Model&, const Victims& v) { return v.images; }},
      {"noise", [on](const attacks::Model&, const Victims& v) {
         return attacks::extreme_point(v, on.threat,
                                       {.seed = on.seed, .purpose = Purpose::attack_query});
       }}};
  for (Gate gate : {Gate::open, Gate::blocked})
    all.push_back(
        {text("pgd ", name_of(gate)), [on, gate](const attacks::Model& m, const Victims& v) {
           Pgd a = pgd_of(on);
           a.objective.gate = gate;
           return attacks::pgd(m, v, a).adversarial;
         }});
  if (model.is_routed())
    all.push_back({"router attacked", [on](const attacks::Model& m, const Victims& v) {
                     Pgd a = pgd_of(on);
                     a.keep = attacks::Keep::last;
                     a.objective.climbed = attacks::Climbed::router;
                     Victims own = v;
                     own.routes = m.forward(v.images, Gate::blocked).experts;
                     return attacks::pgd(m, own, a).adversarial;
                   }});
  return all;
}

std::vector<Tally> tallies_for(const models::Classifier& model, const Seen& seen) {
  const size_t experts = static_cast<size_t>(
      model.is_routed() ? model.routes() : model.settings().transformer.moe.experts);
  std::vector<Tally> out;
  for (size_t g = 0; g < seen.gates.size(); ++g) {
    Tally tally;
    tally.use.name = model.is_routed() ? "router" : text("gate ", g + 1);
    tally.use.use.resize(experts);
    if (model.is_routed()) tally.use.moved.assign(experts, std::vector<int64_t>(experts));
    out.push_back(std::move(tally));
  }
  return out;
}

void add_gaps(const models::Classifier& model, const attacks::Victims& v, Norm norm, Margins& to) {
  const NoTapeScope not_recorded;
  const Tensor scores = model.forward(v.images, Mode::eval).scores;
  const auto routes = static_cast<size_t>(scores.dim(1));
  std::vector<float> all = scores.to_vector<float>();
  for (auto row = all.begin(); row != all.end(); row += static_cast<int64_t>(routes)) {
    std::partial_sort(row, row + 2, row + static_cast<int64_t>(routes), std::greater<>());
    to.gaps.push_back(double{row[0]} - double{row[1]});
  }
  const std::vector<double> distances = attacks::route_distances(attack_model(model), v, norm);
  to.distances.insert(to.distances.end(), distances.begin(), distances.end());
}

}  // namespace

RouteAnalysis analyse_routes(const models::Classifier& model, const data::ImageSet& set,
                             const AnalysisSettings& on) {
  require(model.has_gates(), "the model has no gates: its images all take the same way");
  const attacks::Model attacked = attack_model(model);
  const std::vector<Attacked> conditions = conditions_for(model, on);
  RouteAnalysis out;
  out.images = set.size();
  std::vector<std::vector<Tally>> tallies(conditions.size());
  for (const Attacked& c : conditions) out.conditions.push_back({c.name, 0, {}});
  each_batch(model, set, on.batch, [&](const attacks::Victims& v) {
    const Seen clean = look(model, v.images);
    const std::vector<int32_t> labels = v.labels.to_vector<int32_t>();
    for (size_t c = 0; c < conditions.size(); ++c) {
      const NoTapeScope not_recorded;
      const Seen now = look(model, conditions[c].points(attacked, v));
      if (tallies[c].empty()) tallies[c] = tallies_for(model, now);
      for (size_t i = 0; i < labels.size(); ++i)
        out.conditions[c].correct += now.predicted[i] == labels[i];
      for (size_t g = 0; g < now.gates.size(); ++g) tallies[c][g].add(clean.gates[g], now.gates[g]);
    }
    if (model.is_routed()) add_gaps(model, v, on.threat.norm, out.margins);
  });
  for (size_t c = 0; c < conditions.size(); ++c)
    for (const Tally& tally : tallies[c]) out.conditions[c].gates.push_back(tally.result());
  std::sort(out.margins.gaps.begin(), out.margins.gaps.end());
  std::sort(out.margins.distances.begin(), out.margins.distances.end());
  return out;
}

}  // namespace moat::train
