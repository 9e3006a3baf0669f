#include <algorithm>
#include <climits>
#include <cmath>
#include <functional>
#include <utility>

#include "attacks/checks/subject.h"
#include "attacks/noise.h"
#include "attacks/random_points.h"
#include "attacks/square.h"
#include "engine/ops/reduce.h"

namespace moat::attacks {

using namespace engine;

namespace {

constexpr int kSteps = 20, kRestarts = 10, kRestartSteps = 10, kConverged = 50, kLast = 10;
constexpr int kNoiseDraws = 500, kQueries = 500;

Pgd pgd_of(const ThreatModel& threat, int steps) {
  return {.threat = threat, .steps = steps, .step = threat.eps / 4};
}

int64_t count_fooled(const std::vector<int>& fooled_at, int before) {
  return std::count_if(fooled_at.begin(), fooled_at.end(),
                       [&](int at) { return at >= 0 && at < before; });
}

// Images that `first` fools and `second` does not.
int64_t count_missed(const std::vector<int>& first, const std::vector<int>& second) {
  int64_t missed = 0;
  for (size_t i = 0; i < first.size(); ++i) missed += first[i] >= 0 && second[i] < 0;
  return missed;
}

bool is_inside(const float* x, const float* center, size_t pixels, const ThreatModel& threat) {
  double squares = 0, largest = 0;
  for (size_t j = 0; j < pixels; ++j) {
    const double d = double{x[j]} - double{center[j]};
    if (!(x[j] >= 0 && x[j] <= 1)) return false;
    squares += d * d;
    largest = std::max(largest, std::abs(d));
  }
  return threat.norm == Norm::linf ? largest <= threat.eps
                                   : std::sqrt(squares) <= threat.eps * (1 + 1e-6);
}

// G7 of some results.
double share_outside(const Subject& s, const std::vector<AttackResult>& results) {
  const std::vector<float> centers = s.right.images.to_vector<float>();
  const auto n = static_cast<size_t>(s.right.size());
  const size_t pixels = centers.size() / n;
  int64_t outside = 0;
  for (const AttackResult& r : results) {
    const std::vector<float> x = r.adversarial.to_vector<float>();
    for (size_t i = 0; i < n; ++i)
      outside += !is_inside(&x[i * pixels], &centers[i * pixels], pixels, s.threat);
  }
  return static_cast<double>(outside) / static_cast<double>(n * results.size());
}

// G12: what an attack reports against a fresh look at its points.
double share_of_other_verdicts(const Subject& s, const std::vector<AttackResult>& results) {
  const std::vector<int32_t> labels = s.right.labels.to_vector<int32_t>();
  int64_t other = 0;
  for (const AttackResult& r : results) {
    const std::vector<int32_t> predicted = ask(s.model, r.adversarial).predicted;
    for (size_t i = 0; i < labels.size(); ++i)
      other += (r.fooled_at[i] >= 0) != (predicted[i] != labels[i]);
  }
  return static_cast<double>(other) / static_cast<double>(labels.size() * results.size());
}

// G11, by the gate that leaves fewer images unfinished.
double share_unfinished(const Subject& s) {
  double least = 1;
  for (Gate gate : s.gates()) {
    const Objective objective{.gate = gate};
    const auto n = static_cast<size_t>(s.right.size());
    std::vector<float> first, best(n, -INFINITY), before;
    std::vector<bool> fooled(n);
    const std::vector<int32_t> labels = s.right.labels.to_vector<int32_t>();
    Tensor x = uniform_point(s.right, s.threat, {.seed = s.seed, .purpose = Purpose::attack_start});
    for (int step = 0; step <= kConverged; ++step) {
      const Probe p = with_gradient(s.model, x, s.right, objective);
      const std::vector<float> loss = p.loss.to_vector<float>();
      const std::vector<int32_t> predicted = p.predicted.to_vector<int32_t>();
      for (size_t i = 0; i < n; ++i) {
        best[i] = std::max(best[i], loss[i]);
        fooled[i] = fooled[i] || predicted[i] != labels[i];
      }
      if (step == 0) first = best;
      if (step == kConverged - kLast) before = best;
      const BallStep move{.norm = s.threat.norm, .eps = s.threat.eps, .step = s.threat.eps / 4};
      x = ball_step(x, p.gradient, s.right.images, move);
    }
    int64_t unfinished = 0;
    for (size_t i = 0; i < n; ++i)
      unfinished += !fooled[i] && best[i] - before[i] > 0.05 * double{best[i] - first[i]};
    least = std::min(least, static_cast<double>(unfinished) / static_cast<double>(n));
  }
  return least;
}

double largest_radius(const Subject& s) {  // of a ball that holds the box
  const auto pixels = static_cast<double>(s.right.images.size() / s.right.size());
  return s.threat.norm == Norm::linf ? 1 : std::sqrt(pixels);
}

// Of all images, where so many of the right ones are fooled.
double robust_accuracy(const Subject& s, int64_t fooled) {
  return static_cast<double>(s.right.size() - fooled) / static_cast<double>(s.all.size());
}

// G15, from PGD that counted its points.
Check change_by_more_steps(const Subject& s, const std::vector<int>& fooled_at) {
  const auto fooled_after = [&](int steps) { return count_fooled(fooled_at, steps + 1); };
  Check check =
      judged("G15", part_of(fooled_after(4 * kSteps) - fooled_after(2 * kSteps), fooled_at.size()));
  for (int steps : {0, 1, 2, 3, 5, 7, 10, 15, 20, 30, 40, 60, 80})
    check.curve.emplace_back(steps, robust_accuracy(s, fooled_after(steps)));
  return check;
}

// G17: eps / 8 … 16 eps, 1/255 … 128/255 for 8/255.
Check change_by_larger_balls(const Subject& s) {
  double worst = 0;
  std::vector<std::pair<double, double>> curve = {{0, robust_accuracy(s, 0)}};
  std::vector<int> smaller(static_cast<size_t>(s.right.size()), -1);  // eps = 0 fools none
  for (double factor = 0.125; factor <= 16; factor *= 2) {
    const double eps = factor * s.threat.eps;
    if (eps > largest_radius(s)) break;
    const std::vector<int> larger =
        first_fooled(pgd_through_gates(s, pgd_of({s.threat.norm, eps}, kSteps)));
    worst = std::max(worst, part_of(count_missed(smaller, larger), larger.size()));
    curve.emplace_back(eps, robust_accuracy(s, count_fooled(larger, INT_MAX)));
    smaller = larger;
  }
  Check check = judged("G17", worst);
  check.curve = std::move(curve);
  return check;
}

// G18: 100 steps of a fiftieth where there is no bound; chance with three deviations at half.
double share_beyond_bounds(const Subject& s) {
  const auto robust_at = [&](double radius) {
    Pgd a = pgd_of({s.threat.norm, radius * largest_radius(s)}, 100);
    a.step = a.threat.eps / 50;
    const std::vector<int> fooled = first_fooled(pgd_through_gates(s, a));
    return std::ssize(fooled) - count_fooled(fooled, INT_MAX);
  };
  const auto n = static_cast<double>(s.all.size());
  const double chance = 1 / static_cast<double>(ask(s.model, s.all.images).classes);
  const double at_half =
      static_cast<double>(robust_at(0.5)) / n - chance - 3 * std::sqrt(chance * (1 - chance) / n);
  return std::max(static_cast<double>(robust_at(1)) / static_cast<double>(s.right.size()), at_half);
}

// What `attack` fools of the images that resist the gradient.
int64_t count_found(const Subject& s, const std::vector<int>& white_box,
                    const std::function<AttackResult(const Victims&)>& attack) {
  std::vector<int32_t> survivors;
  for (size_t i = 0; i < white_box.size(); ++i)
    if (white_box[i] < 0) survivors.push_back(static_cast<int32_t>(i));
  return count_fooled(attack(s.right.rows(survivors)).fooled_at, INT_MAX);
}

}  // namespace

std::vector<Check> check_balls(const Subject& s) {
  return {change_by_larger_balls(s), judged("G18", share_beyond_bounds(s))};
}

std::vector<Check> check_attacks(const Subject& s) {
  const auto n = static_cast<size_t>(s.right.size());
  const auto one_step = pgd_through_gates(s, fgsm(s.threat));
  const auto longest = pgd_through_gates(s, pgd_of(s.threat, 4 * kSteps));
  Pgd repeated = pgd_of(s.threat, kRestartSteps);
  repeated.restarts = kRestarts;
  const auto restarted = pgd_through_gates(s, repeated);
  std::vector<AttackResult> white_box = longest;
  white_box.insert(white_box.end(), restarted.begin(), restarted.end());

  std::vector<int> after_ten = first_fooled(longest);
  for (int& at : after_ten)
    if (at > 10) at = -1;
  const std::vector<int> by_restart = first_fooled(restarted);
  const auto fooled_after = [&](int restarts) {
    return count_fooled(by_restart, restarts * (kRestartSteps + 1));
  };
  std::vector<Check> checks = {
      judged("G7", share_outside(s, white_box)),
      judged("G11", share_unfinished(s)),
      judged("G12", share_of_other_verdicts(s, white_box)),
      judged("G14", part_of(count_missed(first_fooled(one_step), after_ten), n)),
      change_by_more_steps(s, first_fooled(longest)),
      judged("G16", part_of(fooled_after(kRestarts) - fooled_after(kRestarts / 2), n))};

  const std::vector<int> fooled = first_fooled(white_box);
  if (count_fooled(fooled, INT_MAX) == std::ssize(fooled)) {
    for (const char* id : {"G19", "G20"})
      checks.push_back(skipped(id, "no image resists the gradient"));
    return checks;
  }
  const auto by_noise = [&](const Victims& v) {
    return noise(
        s.model, v,
        {.threat = s.threat, .uniform_draws = 0, .extreme_draws = kNoiseDraws, .seed = s.seed});
  };
  const auto by_square = [&](const Victims& v) {
    return square_attack(s.model, v, {.threat = s.threat, .queries = kQueries, .seed = s.seed});
  };
  checks.push_back(judged(
      "G19", static_cast<double>(count_found(s, fooled, by_noise)) / static_cast<double>(n)));
  checks.push_back(judged("G20", part_of(count_found(s, fooled, by_square), n)));
  return checks;
}

}  // namespace moat::attacks
