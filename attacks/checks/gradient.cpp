#include <algorithm>
#include <cmath>

#include "attacks/checks/subject.h"
#include "attacks/random_points.h"
#include "engine/ops/elementwise.h"

namespace moat::attacks {

using namespace engine;

namespace {

constexpr double kTiny = 1e-12;
constexpr double kDifference = 1e-3;  // of a pixel
constexpr int kNeighbours = 25;
constexpr double kNeighbourhood = 4.0 / 255;

double share_without_gradient(const Subject& s, const Tensor& points, Loss loss) {
  const std::vector<float> g =
      with_gradient(s.model, points, s.right, {.loss = loss}).gradient.to_vector<float>();
  const auto n = static_cast<size_t>(points.dim(0));
  const size_t pixels = g.size() / n;
  int64_t without = 0;
  for (size_t i = 0; i < n; ++i) {
    float largest = 0;
    bool is_finite = true;
    for (size_t j = i * pixels; j < (i + 1) * pixels; ++j) {
      is_finite = is_finite && std::isfinite(g[j]);
      largest = std::max(largest, std::abs(g[j]));
    }
    without += !is_finite || largest < kTiny;
  }
  return static_cast<double>(without) / static_cast<double>(n);
}

Check vanishing_gradients(const Subject& s) {
  const double entropy = share_without_gradient(s, s.right.images, Loss::cross_entropy),
               margin = share_without_gradient(s, s.right.images, Loss::margin);
  Check check = judged("G9", std::max(entropy, margin));
  if (check.status != CheckStatus::pass && margin <= check.threshold) {
    check.meaning = "share of images without a gradient of the cross-entropy, whose margin has one";
    check.next_action = "scaled logits: attack a loss that does not saturate (margin, DLR)";
  }
  return check;
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + std::ssize(values) / 2;
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// Of the margin's derivative along the sign of its gradient, at points that have room for the
// difference; images whose route changes in between are left out.
Check finite_differences(const Subject& s) {
  const Tensor x = clamp(s.right.images, kDifference, 1 - kDifference);
  double best = INFINITY;
  for (Gate gate : s.gates()) {
    const Objective objective{.loss = Loss::margin, .gate = gate};
    const Tensor g = with_gradient(s.model, x, s.right, objective).gradient;
    const Tensor step = scale(sign(g), kDifference);
    const std::vector<float> slope = g.to_vector<float>();
    const auto there = [&](double side) {
      const Tensor point = add(x, scale(step, side));
      return std::pair(without_gradient(s.model, point, s.right, objective).loss.to_vector<float>(),
                       ask(s.model, point).routes);
    };
    const auto [above, routes_above] = there(1);
    const auto [below, routes_below] = there(-1);
    const std::vector<int32_t> routes = ask(s.model, x).routes;
    const size_t n = above.size(), pixels = slope.size() / n;
    std::vector<double> errors;
    for (size_t i = 0; i < n; ++i) {
      if (!routes.empty() && (routes[i] != routes_above[i] || routes[i] != routes_below[i]))
        continue;
      double along = 0;
      for (size_t j = i * pixels; j < (i + 1) * pixels; ++j) along += std::abs(slope[j]);
      const double measured = (double{above[i]} - double{below[i]}) / (2 * kDifference);
      if (along >= kTiny) errors.push_back(std::abs(measured - along) / along);
    }
    if (!errors.empty()) best = std::min(best, median(errors));
  }
  if (std::isinf(best)) return skipped("G10", "no image has a gradient and keeps its route");
  return judged("G10", best);
}

double change_at_neighbours(const Subject& s) {
  const auto margins_at = [&](const Tensor& points) {
    return without_gradient(s.model, points, s.right, {.loss = Loss::margin})
        .loss.to_vector<float>();
  };
  const auto here = margins_at(s.right.images);
  const auto pixels = static_cast<double>(s.right.images.size() / s.right.size());
  const double length =
      s.threat.norm == Norm::linf ? kNeighbourhood : kNeighbourhood * std::sqrt(pixels / 3);
  double changed = 0, all = 0;
  for (uint32_t draw = 0; draw < kNeighbours; ++draw) {
    const RandomKey key{.seed = s.seed, .purpose = Purpose::attack_query, .iteration = draw};
    const auto there = margins_at(uniform_point(s.right, {s.threat.norm, length}, key));
    for (size_t i = 0; i < here.size(); ++i) {
      changed += std::abs(there[i] - here[i]);
      all += std::abs(here[i]);
    }
  }
  return changed / all;
}

}  // namespace

std::vector<Check> check_gradients(const Subject& s) {
  return {vanishing_gradients(s), finite_differences(s), judged("G13", change_at_neighbours(s))};
}

}  // namespace moat::attacks
