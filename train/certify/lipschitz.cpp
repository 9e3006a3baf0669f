#include "train/certify/lipschitz.h"

#include <algorithm>
#include <cmath>

namespace moat::train {

namespace {

// lead / rate; an output that never moves keeps its lead forever.
double distance(double lead, double rate) {
  if (!(lead > 0) || std::isnan(rate)) return 0;
  return rate > 0 ? lead / rate : std::numeric_limits<double>::infinity();
}

}  // namespace

double radius_of(const Cone& cone, int a) {
  double radius = cone.within;
  for (int b = 0; b < cone.difference.classes; ++b)
    if (b != a) radius = std::min(radius, distance(cone.difference.at(a, b), cone.rate.at(a, b)));
  return radius;
}

Cone mixed(std::span<const ConeOfExpert> experts, double within) {
  Cone out = experts.front().cone;
  out.within = within;
  std::vector<Pairs> differences;
  std::vector<Share> shares;
  for (const ConeOfExpert& e : experts) {
    out.within = std::min(out.within, e.cone.within);
    differences.push_back(e.cone.difference);
    shares.push_back(e.weight);
  }
  out.difference = mixed(differences, shares);
  for (size_t k = 0; k < out.rate.values.size(); ++k) {
    double rate = 0;
    for (const ConeOfExpert& e : experts)
      rate += e.gate_rate * e.largest.values[k] + e.weight.high * e.cone.rate.values[k];
    out.rate.values[k] = rate;
  }
  return out;
}

Cone averaged(const Cone& standard, const Cone& robust, double alpha) {
  return {averaged(standard.difference, robust.difference, alpha),
          averaged(standard.rate, robust.rate, alpha), std::min(standard.within, robust.within)};
}

Cone of_probabilities(const Cone& logits) {
  const std::vector<double>& rates = logits.rate.values;
  Cone out{of_probabilities(logits.difference), logits.rate, logits.within};
  const double most = *std::max_element(rates.begin(), rates.end());
  std::fill(out.rate.values.begin(), out.rate.values.end(), most / 2);
  return out;
}

double dual_radius(const Cone& robust, int a, double alpha) {
  if (!(alpha > 0.5)) return 0;
  double radius = robust.within;
  for (int b = 0; b < robust.difference.classes; ++b)
    if (b != a)
      radius = std::min(radius, distance(alpha * robust.difference.at(a, b) - (1 - alpha),
                                         alpha * robust.rate.at(a, b)));
  return radius;
}

}  // namespace moat::train
