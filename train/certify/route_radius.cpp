#include "train/certify/route_radius.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace moat::train {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Push {
  double room, size;  // how far the pixel may go, |w_p|
};

// The eps at which Σ size · min(eps, room) is `lead`: between the rooms in ascending order the gain
// grows by the sizes of the pixels that are not yet at their bound.
double eps_of_gain(std::vector<Push> pushes, double lead) {
  std::sort(pushes.begin(), pushes.end(),
            [](const Push& a, const Push& b) { return a.room < b.room; });
  double slope = 0, gained = 0;
  for (const Push& push : pushes) slope += push.size;
  for (const Push& push : pushes) {
    if (push.room < kInfinity && gained + slope * push.room < lead) {
      gained += push.size * push.room;
      slope -= push.size;
      continue;
    }
    return slope > 0 ? (lead - gained) / slope : kInfinity;
  }
  return kInfinity;
}

}  // namespace

double linear_route_radius(std::span<const double> weight, std::span<const double> bias,
                           std::span<const double> image, Box box) {
  const size_t experts = bias.size(), pixels = image.size();
  std::vector<double> scores(bias.begin(), bias.end());
  for (size_t e = 0; e < experts; ++e)
    for (size_t p = 0; p < pixels; ++p) scores[e] += weight[e * pixels + p] * image[p];
  const auto winner =
      static_cast<size_t>(std::max_element(scores.begin(), scores.end()) - scores.begin());
  double radius = kInfinity;
  for (size_t e = 0; e < experts; ++e) {
    if (e == winner) continue;
    std::vector<Push> pushes;
    for (size_t p = 0; p < pixels; ++p) {
      const double w = weight[e * pixels + p] - weight[winner * pixels + p];
      const double room = box == Box::open ? kInfinity : w > 0 ? 1 - image[p] : image[p];
      pushes.push_back({room, std::abs(w)});
    }
    radius = std::min(radius, eps_of_gain(std::move(pushes), scores[winner] - scores[e]));
  }
  return radius;
}

}  // namespace moat::train
