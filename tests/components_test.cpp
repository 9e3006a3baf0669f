#include "attacks/components.h"

#include <catch2/catch.hpp>
#include <numeric>

#include "attacks/transfer.h"
#include "tests/linear_moe.h"

namespace moat::tests {

using namespace engine;
using namespace attacks;
using attacks::Gate;
using Numbers = LinearMoe::Numbers;

namespace {

constexpr int kPixels = 6;
constexpr double kEps = 0.15;

// Linear experts of two classes and a linear router, images away from the box: what the corners of
// the ball do is known.
struct Scene {
  LinearMoe moe;
  Victims victims;

  explicit Scene(int experts) : moe(random_linear_moe(kPixels, 2, experts)) {
    for (size_t e = 0; e < size_t(experts); ++e) {  // the gray image is on every boundary
      moe.router_bias[e] = -half_sum(moe.router_weight, e);
      for (size_t z = 2 * e; z < 2 * e + 2; ++z)
        moe.expert_bias[z] = -half_sum(moe.expert_weight, z);
    }
    const int64_t n = 200;
    victims.images = random_uniform({n, 1, 1, kPixels}, row_numbers(n), {.seed = 8}, 0.2, 0.8);
    victims.ids = row_numbers(n);
    std::vector<int32_t> labels;
    for (int32_t i = 0; i < n; ++i) labels.push_back(i % 2);
    victims.labels = index_of(labels);
  }
  static double half_sum(const Numbers& w, size_t row) {
    return std::accumulate(&w[row * kPixels], &w[row * kPixels] + kPixels, 0.0) / 2;
  }
  int label(int64_t i) const { return victims.labels.data_as<int32_t>()[i]; }
};

double lead(const Numbers& z, size_t of) {
  double other = -1e300;
  for (size_t j = 0; j < z.size(); ++j)
    if (j != of) other = std::max(other, z[j]);
  return z[of] - other;
}

// ‖row a - row b‖_1 of a matrix [rows, kPixels].
double slope(const Numbers& w, int a, int b) {
  double sum = 0;
  for (size_t j = 0; j < kPixels; ++j)
    sum += std::abs(w[size_t(a) * kPixels + j] - w[size_t(b) * kPixels + j]);
  return sum;
}

const Pgd kAttack{.threat = {.eps = kEps}, .steps = 20, .step = kEps};

}  // namespace

TEST_CASE("components: experts along the clean route fail where a linear map can",
          "[attacks][components]") {
  const Scene s(3);
  const Resisted found = resist_with_frozen_router(s.moe.model(), s.victims, kAttack);
  int64_t resisting = 0, close = 0;
  for (int64_t i = 0; i < s.victims.size(); ++i) {
    const Numbers x = image_of(s.victims.images, i);
    const int e = s.moe.route(x);
    const double reserve = lead(s.moe.logits(x, e), size_t(s.label(i))) -
                           kEps * slope(s.moe.expert_weight, 2 * e, 2 * e + 1);
    INFO("image " << i << ": " << reserve);
    if (std::abs(reserve) > 1e-4)
      CHECK(found.images[size_t(i)] == (reserve > 0));
    else
      ++close;
    resisting += found.images[size_t(i)];
  }
  CHECK(close < 3);
  CHECK(resisting > 10);
  CHECK(resisting < 180);
  CHECK(found.forwards > s.victims.size());
}

TEST_CASE("components: a router fails where it can reach an expert that is wrong",
          "[attacks][components]") {
  const Scene s(2);
  const Resisted found = resist_with_frozen_experts(s.moe.model(), s.victims, kAttack);
  int64_t resisting = 0, moved = 0;
  for (int64_t i = 0; i < s.victims.size(); ++i) {
    const Numbers x = image_of(s.victims.images, i);
    const int own = s.moe.route(x);
    const double distance =
        lead(s.moe.scores(x), size_t(own)) - kEps * slope(s.moe.router_weight, 0, 1);
    if (std::abs(distance) < 1e-4) continue;
    const auto right = [&](int e) { return lead(s.moe.logits(x, e), size_t(s.label(i))) > 0; };
    INFO("image " << i << ": " << distance);
    CHECK(found.images[size_t(i)] == (right(own) && (distance > 0 || right(1 - own))));
    resisting += found.images[size_t(i)];
    moved += right(own) && !found.images[size_t(i)];
  }
  CHECK(resisting > 20);
  CHECK(moved > 10);
}

TEST_CASE("components: a dense model has no parts, a soft gate no route", "[attacks][components]") {
  const Scene s(2);
  Model dense = s.moe.model();
  dense.routes = 1;
  CHECK_THROWS_WITH(resist_with_frozen_router(dense, s.victims, kAttack),
                    Catch::Contains("route whole images"));
  CHECK_THROWS_WITH(resist_with_frozen_experts(dense, s.victims, kAttack),
                    Catch::Contains("route whole images"));
  Model soft = s.moe.model();
  soft.is_soft = true;
  CHECK_THROWS_WITH(resist_with_frozen_router(soft, s.victims, kAttack),
                    Catch::Contains("a soft gate has no one route"));
  CHECK_THROWS_WITH(resist_with_frozen_experts(soft, s.victims, kAttack),
                    Catch::Contains("a soft gate has no one route"));
}

TEST_CASE("transfer: the model judges what its twin's attack came to", "[attacks][components]") {
  const Scene s(2);
  const LinearMoe other = random_linear_moe(kPixels, 2, 2, 90);
  Transfer attack{.source = other.model(), .from = "other"};
  attack.climb.threat.eps = 0.2;
  attack.climb.step = 0.05;
  attack.climb.steps = 5;
  const Model model = s.moe.model();
  const AttackResult found = transfer(model, s.victims, attack);
  const AttackResult on_source = pgd(attack.source, s.victims, attack.climb);
  CHECK(found.adversarial.to_vector<float>() == on_source.adversarial.to_vector<float>());
  CHECK(found.forwards == on_source.forwards + s.victims.size());
  CHECK(found.backwards == on_source.backwards);
  int64_t fooled = 0;
  for (int64_t i = 0; i < s.victims.size(); ++i) {
    const Numbers x = image_of(found.adversarial, i);
    const double margin = lead(s.moe.logits(x, s.moe.route(x)), size_t(s.label(i)));
    if (std::abs(margin) < 1e-4) continue;
    CHECK((found.fooled_at[size_t(i)] >= 0) == (margin < 0));
    fooled += margin < 0;
  }
  CHECK(fooled > 10);
  CHECK(fooled < 190);
  CHECK_THROWS_WITH(transfer(model, s.victims, {}), Catch::Contains("source"));
}

}  // namespace moat::tests
