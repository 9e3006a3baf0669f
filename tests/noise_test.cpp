#include "attacks/noise.h"

#include <catch2/catch.hpp>
#include <cmath>

#include "attacks/random_points.h"
#include "engine/ops/elementwise.h"
#include "tests/linear_victims.h"

namespace moat::tests {

using namespace engine;
using namespace attacks;
using namespace linear_victims;

TEST_CASE("noise: random points are where they should be", "[noise]") {
  const Linear net({40, 6, 6, 3}, 2, 0);
  const Victims v = net.victims(0.02, 0.98);
  const RandomKey key{.seed = 6};
  const double eps = 0.05;
  const auto c = values(v.images);
  const auto u = values(uniform_point(v, {.eps = eps}, key)),
             corner = values(extreme_point(v, {.eps = eps}, key));
  double sum = 0, high = 0;
  for (size_t i = 0; i < c.size(); ++i) {
    sum += std::abs(double(u[i]) - double(c[i])) / eps;
    const double d = double(corner[i]) - double(c[i]);
    high += d > 0;
    const bool is_clipped = corner[i] == 0 || corner[i] == 1;
    CHECK((is_clipped || std::abs(std::abs(d) - eps) < 1e-7));
  }
  // |uniform| has mean 1/2 and deviation 0.29, over 4320 pixels, a little less at the box.
  CHECK(sum / double(c.size()) == Approx(0.5).margin(0.02));
  CHECK(high / double(c.size()) == Approx(0.5).margin(0.03));

  // In the middle of the box: radii r with density ~ r^107, or all of them eps.
  const Victims middle = net.victims(0.4, 0.6);
  const auto radii = [&](const Tensor& points) {
    const Tensor d = sub(points, middle.images);
    return values(sqrt(engine::sum(square(d).reshaped({40, 108}), 1)));
  };
  double power = 0;
  for (float r : radii(uniform_point(middle, {Norm::l2, eps}, key)))
    power += std::pow(double(r) / eps, 108) / 40;
  CHECK(power == Approx(0.5).margin(0.15));  // uniform in [0, 1]; deviation 0.05
  for (float r : radii(extreme_point(middle, {Norm::l2, eps}, key)))
    CHECK(r == Approx(eps).epsilon(1e-5));
}

TEST_CASE("noise: the worst draw is kept, and draws are counted", "[noise]") {
  const Linear net({5, 4, 4, 3}, 2, 40);
  const Victims v = net.victims();
  const Noise a{.threat = {.eps = 0.1}, .uniform_draws = 7, .extreme_draws = 4, .seed = 3};
  const AttackResult r = noise(net.model(), v, a);
  CHECK(r.forwards == 5 * 11);
  CHECK(net.seen == r.forwards);
  std::vector<float> worst(5, -INFINITY);
  for (uint32_t draw = 0; draw < 11; ++draw) {
    const RandomKey key{.seed = 3, .purpose = Purpose::attack_query, .iteration = draw};
    const Tensor x = draw < 7 ? uniform_point(v, a.threat, key) : extreme_point(v, a.threat, key);
    const auto loss = margins(net, x, v);
    for (size_t i = 0; i < 5; ++i) worst[i] = std::max(worst[i], loss[i]);
  }
  CHECK(margins(net, r.adversarial, v) == worst);
}

}  // namespace moat::tests
