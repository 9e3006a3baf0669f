#include "train/certify/pairs.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace moat::train {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

}  // namespace

double Pairs::least_lead(int a) const {
  double least = kInfinity;
  for (int b = 0; b < classes; ++b) {
    if (b == a) continue;
    if (std::isnan(at(a, b))) return -kInfinity;
    least = std::min(least, at(a, b));
  }
  return least;
}

std::vector<Share> gate_shares(const Pairs& scores, int active) {
  const int experts = scores.classes;
  std::vector<Share> shares(static_cast<size_t>(experts));
  const auto is_reached = [&](int i) {  // unless `active` others are always above it
    int above = 0;
    for (int j = 0; j < experts; ++j) above += j != i && scores.at(j, i) > 0;
    return above < active;
  };
  for (int i = 0; i < experts; ++i) {
    Share& share = shares[static_cast<size_t>(i)];
    share = {0, 0};
    if (!is_reached(i)) continue;
    int rivals = 0;                   // that may be above it
    std::vector<double> least, most;  // exp(s_j - s_i) of those that may be chosen beside it
    for (int j = 0; j < experts; ++j) {
      if (j == i) continue;
      rivals += !(scores.at(i, j) > 0);  // NaN: it may
      if (!is_reached(j)) continue;
      least.push_back(std::exp(scores.at(j, i)));
      most.push_back(std::exp(-scores.at(i, j)));
    }
    // Beside it are active - 1 others: at best for it those of the least scores.
    const auto others = std::min(std::ssize(least), static_cast<std::ptrdiff_t>(active - 1));
    std::sort(least.begin(), least.end());
    std::sort(most.begin(), most.end(), std::greater<>());
    const double beside_least = std::accumulate(least.begin(), least.begin() + others, 1.0);
    const double beside_most = std::accumulate(most.begin(), most.begin() + others, 1.0);
    share.high = std::isnan(beside_least) ? 1 : 1 / beside_least;
    share.low = rivals >= active || std::isnan(beside_most) ? 0 : 1 / beside_most;
  }
  return shares;
}

Pairs mixed(std::span<const Pairs> experts, std::span<const Share> shares) {
  std::vector<size_t> used;
  for (size_t i = 0; i < shares.size(); ++i)
    if (shares[i].high > 0) used.push_back(i);
  Pairs out(experts[used.at(0)].classes);
  for (int a = 0; a < out.classes; ++a)
    for (int b = 0; b < out.classes; ++b) {
      const auto value = [&](size_t i) {
        const double v = experts[i].at(a, b);
        return std::isnan(v) ? -kInfinity : v;
      };
      std::vector<size_t> order = used;
      std::sort(order.begin(), order.end(),
                [&](size_t i, size_t j) { return value(i) < value(j); });
      double rest = 1, total = 0;
      for (size_t i : order) rest -= shares[i].low;
      for (size_t i : order) {
        const double more = std::clamp(rest, 0.0, shares[i].high - shares[i].low);
        rest -= more;
        if (shares[i].low + more > 0) total += (shares[i].low + more) * value(i);
      }
      if (rest > 0) total += rest * value(order.front());  // shares that were rounded down
      out.at(a, b) = total;
    }
  return out;
}

Pairs averaged(const Pairs& standard, const Pairs& robust, double alpha) {
  Pairs out(standard.classes);
  for (size_t i = 0; i < out.values.size(); ++i)
    out.values[i] = (1 - alpha) * standard.values[i] + alpha * robust.values[i];
  return out;
}

Pairs of_probabilities(const Pairs& logits) {
  const int classes = logits.classes;
  std::vector<double> least, most;  // of each probability, 1 / Σ_k exp(z_k - z_a)
  for (int a = 0; a < classes; ++a) {
    double above = 1, below = 1;
    for (int k = 0; k < classes; ++k) {
      if (k == a) continue;
      above += std::exp(-logits.at(a, k));
      below += std::exp(logits.at(k, a));
    }
    least.push_back(1 / above);
    most.push_back(1 / below);
  }
  Pairs out(classes);
  for (int a = 0; a < classes; ++a)
    for (int b = 0; b < classes; ++b) {
      if (a == b) continue;
      const double pa = least[static_cast<size_t>(a)], pb = most[static_cast<size_t>(b)];
      // p_a - p_b = p_a (1 - exp(z_b - z_a)) = -p_b (1 - exp(z_a - z_b)).
      const double lead = logits.at(a, b);
      const double by_lead = lead >= 0 ? -pa * std::expm1(-lead) : pb * std::expm1(lead);
      out.at(a, b) = std::max(pa - pb, by_lead);
    }
  return out;
}

}  // namespace moat::train
