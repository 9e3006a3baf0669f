#include "train/statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <numeric>

#include "engine/error.h"

namespace moat::train {

using engine::require;
using engine::text;

double fraction(int64_t part, int64_t whole) {
  return whole ? static_cast<double>(part) / static_cast<double>(whole) : 0;
}

Interval wilson_interval(int64_t successes, int64_t trials, double z) {
  require(trials >= 0 && successes >= 0 && successes <= trials, [&] {
    return text("wilson_interval: 0 <= successes <= trials must hold, got ", successes, " of ",
                trials);
  });
  if (trials == 0) return {0.0, 1.0};
  const double n = static_cast<double>(trials), p = static_cast<double>(successes) / n, z2 = z * z;
  const double centre = (p + z2 / (2 * n)) / (1 + z2 / n);
  const double half = z / (1 + z2 / n) * std::sqrt(p * (1 - p) / n + z2 / (4 * n * n));
  // At the ends the bound is exact; rounding would leave 1e-17 there.
  return {successes == 0 ? 0.0 : std::max(0.0, centre - half),
          successes == trials ? 1.0 : std::min(1.0, centre + half)};
}

double sign_test(int64_t first, int64_t second) {
  const auto n = static_cast<double>(first + second);
  double tail = 0;  // of k heads of n coins, k at most the smaller count
  for (int64_t k = 0; k <= std::min(first, second); ++k) {
    const auto heads = static_cast<double>(k);
    tail += std::exp(std::lgamma(n + 1) - std::lgamma(heads + 1) - std::lgamma(n - heads + 1) -
                     n * std::numbers::ln2);
  }
  return std::min(1.0, 2 * tail);
}

MeanDeviation mean_deviation(std::span<const double> values) {
  if (values.empty()) {
    const double nan = std::numeric_limits<double>::quiet_NaN();
    return {nan, nan};
  }
  const double n = static_cast<double>(values.size());
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
  if (values.size() == 1) return {mean, 0.0};
  double squares = 0;
  for (double v : values) squares += (v - mean) * (v - mean);
  return {mean, std::sqrt(squares / (n - 1))};
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 ? values[half] : (values[half - 1] + values[half]) / 2;
}

double normalized_entropy(std::span<const int64_t> counts) {
  double total = 0;
  for (int64_t c : counts) {
    require(c >= 0, [&] { return text("normalized_entropy: counts must be >= 0, got ", c); });
    total += static_cast<double>(c);
  }
  if (counts.size() < 2 || total == 0) return 0;
  double entropy = 0;
  for (int64_t c : counts) {
    const double p = static_cast<double>(c) / total;
    if (p > 0) entropy -= p * std::log(p);
  }
  return std::max(0.0, entropy / std::log(static_cast<double>(counts.size())));
}

}  // namespace moat::train
