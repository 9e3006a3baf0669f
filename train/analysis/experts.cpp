#include <algorithm>
#include <cmath>

#include "attacks/components.h"
#include "attacks/moe_attacks.h"
#include "engine/ops/loss.h"
#include "engine/ops/reduce.h"
#include "engine/tape.h"
#include "train/analysis/batches.h"
#include "train/objective.h"
#include "train/rt_er.h"

namespace moat::train {

using namespace engine;

namespace {

void require_routes(const models::Classifier& model) {
  require(model.is_routed(),
          "the parts of a mixture are judged one at a time: the model must route "
          "whole images");
}

int64_t count_true(const std::vector<bool>& flags) {
  return std::count(flags.begin(), flags.end(), true);
}

// Images that are right clean and resist all of the attacks.
int64_t count_resisting(const std::vector<int32_t>& predicted, const std::vector<int32_t>& labels,
                        const std::vector<attacks::AttackResult>& attacks) {
  int64_t count = 0;
  for (size_t i = 0; i < labels.size(); ++i)
    count += predicted[i] == labels[i] &&
             std::all_of(attacks.begin(), attacks.end(),
                         [&](const attacks::AttackResult& a) { return a.fooled_at[i] < 0; });
  return count;
}

}  // namespace

ExpertTests test_experts(const models::Classifier& model, const data::ImageSet& set,
                         const AnalysisSettings& on) {
  require_routes(model);
  const NoTapeScope not_recorded;
  const int routes = model.routes();
  ExpertTests out;
  out.alone.resize(static_cast<size_t>(routes));
  out.dropped.resize(static_cast<size_t>(routes));
  each_batch(model, set, on.batch, [&](const attacks::Victims& v) {
    const std::vector<int32_t> labels = v.labels.to_vector<int32_t>(),
                               ids = v.ids.to_vector<int32_t>();
    const size_t n = labels.size(), classes = static_cast<size_t>(model.settings().classes);
    const models::Prediction p = model.forward(v.images, Mode::eval);
    const std::vector<int32_t> own = p.experts.to_vector<int32_t>(),
                               next = second_experts(p.scores).to_vector<int32_t>();
    const std::vector<float> weights = softmax(p.scores).to_vector<float>();
    std::vector<std::vector<float>> logits;       // [routes][n * classes]
    std::vector<std::vector<int32_t>> predicted;  // [routes][n]
    for (int route = 0; route < routes; ++route) {
      const Tensor along = model.forward_along(
          v.images, attacks::index_of(std::vector<int32_t>(n, route), v.images.device()),
          Mode::eval);
      logits.push_back(along.to_vector<float>());
      predicted.push_back(argmax(along, 1).to_vector<int32_t>());
    }
    for (size_t i = 0; i < n; ++i) {
      const int32_t first = own[i], second = next[i];
      const auto right = [&](int32_t route) {
        return predicted[static_cast<size_t>(route)][i] == labels[i];
      };
      for (int32_t e = 0; e < routes; ++e) {
        out.alone[static_cast<size_t>(e)] += right(e);
        out.dropped[static_cast<size_t>(e)] += right(first == e ? second : first);
      }
      out.swapped += right(second);
      const uint32_t bits = random_bits({.seed = on.seed, .purpose = Purpose::attack_query},
                                        static_cast<uint32_t>(ids[i]));
      out.random += right(static_cast<int32_t>(bits % static_cast<uint32_t>(routes)));
      double squares = 0;
      for (size_t c = 0; c < classes; ++c) {
        const double gap = double{logits[size_t(first)][i * classes + c]} -
                           double{logits[size_t(second)][i * classes + c]};
        squares += gap * gap;
      }
      const double jump = std::sqrt(squares), images = static_cast<double>(set.size());
      out.jump += jump / images;
      out.weighted_jump += jump * double{weights[i * size_t(routes) + size_t(first)]} / images;
    }
  });
  return out;
}

JacobianNorms jacobian_norms(const models::Classifier& model, const data::ImageSet& all,
                             const AnalysisSettings& on) {
  require(model.is_routed() || model.has_token_gates(),
          "a frozen route needs a gate: the model must route images or tokens");
  const data::ImageSet set = data::first_rows(all, on.jacobian);
  JacobianNorms out{.images = set.size(), .frozen = {}};
  if (!model.has_soft_gate()) out.frozen = 0;
  each_batch(model, set, on.batch, [&](const attacks::Victims& v) {
    const Tensor routes = model.forward(v.images, Mode::eval).experts;
    const size_t n = static_cast<size_t>(v.size()),
                 classes = static_cast<size_t>(model.settings().classes),
                 pixels = static_cast<size_t>(v.images.size()) / n;
    std::vector<double> free(n), frozen(n);
    const auto add = [&](std::vector<double>& squares, auto logits_of) {
      for (size_t c = 0; c < classes; ++c) {
        Tape tape;
        const Tensor x = tape.watch(v.images);
        const Tensor logits = logits_of(x);
        std::vector<float> column(n * classes);
        for (size_t i = 0; i < n; ++i) column[i * classes + c] = 1;
        const Tensor gradient =
            tape.gradients(logits, Tensor::from(column, logits.shape(), logits.device())).of(x);
        if (!gradient.defined()) continue;
        const std::vector<float> g = gradient.to_vector<float>();
        for (size_t i = 0; i < g.size(); ++i) squares[i / pixels] += double{g[i]} * double{g[i]};
      }
    };
    add(free, [&](const Tensor& x) { return model.forward(x, Mode::eval).logits; });
    if (out.frozen)
      add(frozen, [&](const Tensor& x) {
        return model.is_routed()
                   ? model.forward_along(x, routes, Mode::eval)
                   : model.forward(x, Mode::eval, models::GateGradient::blocked).logits;
      });
    for (size_t i = 0; i < n; ++i) {
      out.free += std::sqrt(free[i]) / static_cast<double>(set.size());
      if (out.frozen) *out.frozen += std::sqrt(frozen[i]) / static_cast<double>(set.size());
    }
  });
  return out;
}

ComponentRobustness component_robustness(const models::Classifier& model, const data::ImageSet& set,
                                         const AnalysisSettings& on) {
  require_routes(model);
  const NoTapeScope not_recorded;
  const attacks::Model attacked = attack_model(model);
  const attacks::Pgd attack = pgd_of(on);
  ComponentRobustness out;
  if (!model.has_soft_gate()) out.experts = out.router = 0;
  each_batch(model, set, on.batch, [&](const attacks::Victims& v) {
    const std::vector<int32_t> labels = v.labels.to_vector<int32_t>(),
                               predicted =
                                   argmax(attacked.forward(v.images, attacks::Gate::blocked).logits,
                                          1)
                                       .to_vector<int32_t>();
    attacks::Pgd blocked = attack;
    blocked.objective.gate = attacks::Gate::blocked;
    const auto along = [&](const attacks::RouteAttack& a) {
      return std::vector{attacks::route_attack(attacked, v, a)};
    };
    out.whole += count_resisting(
        predicted, labels, {attacks::pgd(attacked, v, attack), attacks::pgd(attacked, v, blocked)});
    out.experts_true += count_resisting(predicted, labels, along(attacks::frozen_route(attack)));
    out.router_true += count_resisting(predicted, labels, along(attacks::router_only(attack)));
    out.joint += count_resisting(predicted, labels, along(attacks::joint(blocked, 1)));
    if (model.has_soft_gate()) return;
    *out.experts += count_true(attacks::resist_with_frozen_router(attacked, v, attack).images);
    *out.router += count_true(attacks::resist_with_frozen_experts(attacked, v, attack).images);
  });
  return out;
}

}  // namespace moat::train
