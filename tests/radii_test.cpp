#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <random>

#include "train/certify/lipschitz.h"
#include "train/certify/route_radius.h"

namespace moat::tests {

using namespace train;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Two classes: at(0, 1) = lead, at(1, 0) = -lead, or both the same for sizes.
Pairs two(double lead) {
  Pairs out(2);
  out.at(0, 1) = lead;
  out.at(1, 0) = -lead;
  return out;
}
Pairs both(double size) {
  Pairs out(2);
  out.at(0, 1) = out.at(1, 0) = size;
  return out;
}

// Differences of given outputs.
Pairs differences_of(const std::vector<double>& z) {
  Pairs out(static_cast<int>(z.size()));
  for (int a = 0; a < out.classes; ++a)
    for (int b = 0; b < out.classes; ++b) out.at(a, b) = z[size_t(a)] - z[size_t(b)];
  return out;
}

// Two probability experts at an image: leads 0.8 and 0.4 with weights 3/4 and 1/4, constants of the
// leads 2 and 4, of the gate 1/2 each, |f_a - f_b| <= 1.
Cone soft_example() {
  const std::vector<ConeOfExpert> experts{{{0.75, 0.75}, 0.5, both(1), {two(0.8), both(2)}},
                                          {{0.25, 0.25}, 0.5, both(1), {two(0.4), both(4)}}};
  return mixed(experts, kInfinity);
}

}  // namespace

// m = 3/4 · 0.8 + 1/4 · 0.4 = 0.7; rate = 1/2 + 1/2 + 3/4 · 2 + 1/4 · 4 = 3.5.
TEST_CASE("radii: a soft mixture by hand", "[certify]") {
  const Cone cone = soft_example();
  CHECK(cone.difference.at(0, 1) == Approx(0.7));
  CHECK(cone.rate.at(0, 1) == Approx(3.5));
  CHECK(radius_of(cone, 0) == Approx(0.2));
  CHECK(radius_of(cone, 1) == 0);
}

// A hard expert: no gate, but only as far as the route stays.
TEST_CASE("radii: a hard route bounds what its expert proves", "[certify]") {
  const std::vector<ConeOfExpert> expert{{{1, 1}, 0, both(1), {two(0.6), both(2)}}};
  CHECK(radius_of(mixed(expert, kInfinity), 0) == Approx(0.3));
  CHECK(radius_of(mixed(expert, 0.1), 0) == Approx(0.1));
}

// alpha = 3/4: [0.75 · 0.7 - 0.25] / (0.75 · 3.5) = 0.275 / 2.625.
TEST_CASE("radii: the dual model by hand", "[certify]") {
  const Cone robust = soft_example();
  CHECK(dual_radius(robust, 0, 0.75) == Approx(0.275 / 2.625));
  CHECK(dual_radius(robust, 0, 1) == Approx(0.2));
  CHECK(dual_radius(robust, 0, 0.5) == 0);
  CHECK(dual_radius(robust, 0, 0.2) == 0);
  CHECK(dual_radius(robust, 0, 0.55) == 0);  // 0.55 · 0.7 < 0.45
  CHECK(dual_radius(robust, 1, 0.9) == 0);
  // With what is known of the other model: (0.25 · 0.2 + 0.75 · 0.7) / (0.25 · 1 + 0.75 · 3.5).
  const Cone standard{two(0.2), both(1)};
  CHECK(radius_of(averaged(standard, robust, 0.75), 0) == Approx(0.575 / 2.875));
}

TEST_CASE("radii: an output that cannot move, or is not a number", "[certify]") {
  CHECK(radius_of({two(0.5), both(0)}, 0) == kInfinity);
  CHECK(radius_of({two(0), both(0)}, 0) == 0);
  CHECK(radius_of({two(std::nan("")), both(1)}, 0) == 0);
  CHECK(radius_of({two(1), both(std::nan(""))}, 0) == 0);
  CHECK(radius_of({two(1), both(kInfinity)}, 0) == 0);
  CHECK(two(std::nan("")).least_lead(0) == -kInfinity);
}

// logits (ln 3, 0): probabilities 3/4 and 1/4.
TEST_CASE("pairs: probabilities of known logits, and their rate", "[certify]") {
  const Pairs exact = of_probabilities(differences_of({std::log(3.0), 0}));
  CHECK(exact.at(0, 1) == Approx(0.5));
  CHECK(exact.at(1, 0) == Approx(-0.5));
  const Cone cone = of_probabilities(Cone{two(std::log(3.0)), both(5)});
  CHECK(cone.rate.at(0, 1) == Approx(2.5));
}

TEST_CASE("pairs: bounds of probabilities hold for all logits within bounds", "[certify]") {
  std::mt19937 random(3);
  std::uniform_real_distribution<double> uniform(-1, 1);
  for (int trial = 0; trial < 200; ++trial) {
    const std::vector<double> z{2 * uniform(random), 2 * uniform(random), 2 * uniform(random)};
    const double radius = 0.5 * std::abs(uniform(random));
    Pairs bounds = differences_of(z);
    for (int a = 0; a < 3; ++a)
      for (int b = 0; b < 3; ++b) bounds.at(a, b) -= a == b ? 0 : 2 * radius;
    const Pairs low = of_probabilities(bounds);
    for (int draw = 0; draw < 20; ++draw) {
      double p[3], total = 0;
      for (size_t c = 0; c < 3; ++c)
        total += p[c] =
            std::exp(z[c] + radius * (draw % 2 ? uniform(random) > 0 ? 1 : -1 : uniform(random)));
      for (int a = 0; a < 3; ++a)
        for (int b = 0; b < 3; ++b)
          if (a != b) REQUIRE((p[a] - p[b]) / total >= low.at(a, b) - 1e-12);
    }
  }
}

TEST_CASE("pairs: shares of known scores are their softmax", "[certify]") {
  const double s[] = {2, 1, -1};
  const Pairs scores = differences_of({s[0], s[1], s[2]});
  const auto hard = gate_shares(scores, 1), pair = gate_shares(scores, 2),
             all = gate_shares(scores, 3);
  CHECK((hard[0].low == 1 && hard[0].high == 1));
  CHECK((hard[1].high == 0 && hard[2].high == 0));
  CHECK(pair[0].low == Approx(1 / (1 + std::exp(-1.0))));
  CHECK(pair[0].high == Approx(pair[0].low));
  CHECK(pair[2].high == 0);
  const double total = std::exp(2.0) + std::exp(1.0) + std::exp(-1.0);
  for (size_t i = 0; i < 3; ++i) {
    CHECK(all[i].low == Approx(std::exp(s[i]) / total));
    CHECK(all[i].high == Approx(std::exp(s[i]) / total));
  }
}

// s_0 - s_1 >= -0.1 and s_1 - s_0 >= -0.2: either may win; the third never does.
TEST_CASE("pairs: experts that can be reached have a share", "[certify]") {
  Pairs scores(3);
  scores.at(0, 1) = -0.1;
  scores.at(1, 0) = -0.2;
  scores.at(0, 2) = scores.at(1, 2) = 1;
  scores.at(2, 0) = scores.at(2, 1) = -2;
  const auto hard = gate_shares(scores, 1);
  CHECK((hard[0].low == 0 && hard[0].high == 1));
  CHECK((hard[1].low == 0 && hard[1].high == 1));
  CHECK(hard[2].high == 0);
  const auto pair = gate_shares(scores, 2);  // both, always
  CHECK(pair[0].low == Approx(1 / (1 + std::exp(0.1))));
  CHECK(pair[0].high == Approx(1 / (1 + std::exp(-0.2))));
  // A tie belongs to whoever comes first, which is not looked at: both are reached.
  Pairs tie(2);
  CHECK((gate_shares(tie, 1)[0].high == 1 && gate_shares(tie, 1)[1].high == 1));
  Pairs unknown(2);
  unknown.at(0, 1) = unknown.at(1, 0) = std::nan("");
  CHECK((gate_shares(unknown, 1)[0].high == 1 && gate_shares(unknown, 1)[0].low == 0));
}

// Shares [0.2, 0.6] and [0.4, 0.8]: 0.6 goes to the worse one, the first; then 0.4 to the other.
TEST_CASE("pairs: a mixture is as bad as its shares allow", "[certify]") {
  const std::vector<Pairs> experts{two(-1), two(3)};
  const std::vector<Share> shares{{0.2, 0.6}, {0.4, 0.8}};
  const Pairs out = mixed(experts, shares);
  CHECK(out.at(0, 1) == Approx(-0.6 + 0.4 * 3));
  CHECK(out.at(1, 0) == Approx(0.2 - 0.8 * 3));
  const std::vector<Share> only_second{{0, 0}, {0, 1}};
  CHECK(mixed(experts, only_second).at(0, 1) == Approx(3));
}

// Scores x_0 - x_1 against 0 at (0.6, 0.1): the lead 0.5 is lost at a rate of 2; within the box x_1
// may move by 0.9 and x_0 by 0.6, which binds nothing.
TEST_CASE("route radius: by hand, with and without the box", "[certify]") {
  const std::vector<double> weight{1, -1, 0, 0}, bias{0, 0};
  const std::vector<double> image{0.6, 0.1};
  CHECK(linear_route_radius(weight, bias, image, Box::open) == Approx(0.25));
  CHECK(linear_route_radius(weight, bias, image, Box::pixels) == Approx(0.25));
  // Scores 3 x_0 + x_1 against 1/2 at (0.2, 1): 1.1 is lost at a rate of 4, until x_0 is 0 at 0.2,
  // where 0.3 of it are left.
  const std::vector<double> other{3, 1, 0, 0}, half{0, 0.5};
  CHECK(linear_route_radius(other, half, std::vector<double>{0.2, 1}, Box::open) ==
        Approx(1.1 / 4));
  CHECK(linear_route_radius(other, half, std::vector<double>{0.2, 1}, Box::pixels) == Approx(0.5));
  // Nothing in the box reaches the other route.
  CHECK(linear_route_radius(weight, std::vector<double>{0, -2}, image, Box::pixels) == kInfinity);
}

// At interior points with no box bound active: the closed form is the lead over ‖w‖₁, an attack of
// 1.001 times it flips the route and one of 0.999 times it does not.
TEST_CASE("route radius: it is tight", "[certify]") {
  constexpr size_t kExperts = 4, kPixels = 64;
  std::mt19937 random(5);
  std::uniform_real_distribution<double> uniform(-1, 1);
  int flipped = 0;
  for (int trial = 0; trial < 100; ++trial) {
    std::vector<double> weight(kExperts * kPixels), bias(kExperts), image(kPixels);
    for (double& w : weight) w = uniform(random);
    for (double& b : bias) b = 0.01 * uniform(random);
    for (double& x : image) x = 0.5 + 0.02 * uniform(random);
    const auto scores = [&](const std::vector<double>& x) {
      std::vector<double> s = bias;
      for (size_t e = 0; e < kExperts; ++e)
        for (size_t p = 0; p < kPixels; ++p) s[e] += weight[e * kPixels + p] * x[p];
      return s;
    };
    const auto route = [&](const std::vector<double>& x) {
      const auto s = scores(x);
      return size_t(std::max_element(s.begin(), s.end()) - s.begin());
    };
    const size_t own = route(image);
    const double radius = linear_route_radius(weight, bias, image, Box::pixels);
    REQUIRE(radius < 0.45);  // no bound of the box is active
    CHECK(radius == Approx(linear_route_radius(weight, bias, image, Box::open)).epsilon(1e-12));
    const auto attacked = [&](double eps) {
      for (size_t e = 0; e < kExperts; ++e) {
        std::vector<double> x = image;
        for (size_t p = 0; p < kPixels; ++p)
          x[p] += weight[e * kPixels + p] > weight[own * kPixels + p] ? eps : -eps;
        if (e != own && route(x) != own) return true;
      }
      return false;
    };
    CHECK_FALSE(attacked(0.999 * radius));
    flipped += attacked(1.001 * radius);
  }
  CHECK(flipped == 100);
}

}  // namespace moat::tests
