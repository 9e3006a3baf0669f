#include <catch2/catch.hpp>
#include <cmath>

#include "attacks/attack.h"
#include "attacks/square_bump.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/linalg.h"
#include "engine/ops/shape.h"
#include "engine/ops/square_attack.h"
#include "tests/models_fixture.h"

namespace moat::tests {

using namespace engine;
using namespace attacks;
using attacks::Gate;

namespace {

const Device kGpu{Device::cuda, 0};

std::vector<float> on_host(const Tensor& x) { return x.to(Device{}).to_vector<float>(); }

Tensor pixels(uint64_t seed) {
  return random_uniform({12, 5, 6, 3}, row_numbers(12), {.seed = seed}, 0, 1);
}

// A linear model of three classes, where its weights are.
Model linear_model(const Tensor& weight) {
  return {.forward = [weight](const Tensor& x, Gate) {
    return Outputs{linear(reshape(x, {x.dim(0), 90}), weight, {})};
  }};
}

Victims moved(const Victims& v, Device device) {
  return {v.images.to(device), v.labels.to(device), v.ids.to(device), {}};
}

}  // namespace

TEST_CASE("gpu: queries of Square are those of the CPU", "[gpu][square]") {
  const Tensor best = pixels(1), low = pixels(2), high = pixels(3);
  const Tensor rows = Tensor::from(std::vector<int32_t>{7, 0, 11}, {3}),
               ids = Tensor::from(std::vector<int32_t>{100, 3, 40}, {3});
  const RandomKey key{.seed = 5, .purpose = Purpose::attack_query, .iteration = 9, .stream = 2};
  const auto there = [](const Tensor& x) { return x.to(kGpu); };
  CHECK(on_host(square_linf(there(best), there(low), there(high), there(rows), there(ids), 3,
                            key)) == on_host(square_linf(best, low, high, rows, ids, 3, key)));
  std::vector<float> values;
  for (double v : square_bump(3)) values.push_back(static_cast<float>(v));
  const Tensor bump = Tensor::from(values, {3, 3});
  const auto want = on_host(square_l2(best, low, bump, rows, ids, 0.5, key)),
             got = on_host(square_l2(there(best), there(low), there(bump), there(rows), there(ids),
                                     0.5, key));
  for (size_t i = 0; i < want.size(); ++i)  // sums in another order, and a float32's rounding
    CHECK(got[i] == Approx(want[i]).margin(2e-7));
}

TEST_CASE("gpu: Square and noise fool the images that they fool on a CPU", "[gpu][square]") {
  const Tensor weight = random_uniform({3, 90}, row_numbers(3), {.seed = 2}, -1, 1);
  const Victims v{pixels(4), random_labels(12, 3), row_numbers(12), {}};
  for (Norm norm : {Norm::linf, Norm::l2}) {
    const ThreatModel threat{norm, norm == Norm::linf ? 0.03 : 0.2};
    for (const Attack& attack :
         {Attack(Square{.threat = threat, .queries = 12, .restarts = 2}),
          Attack(Noise{.threat = threat, .uniform_draws = 3, .extreme_draws = 3})}) {
      const AttackResult here = run(linear_model(weight), v, attack),
                         gpu = run(linear_model(weight.to(kGpu)), moved(v, kGpu), attack);
      CHECK(gpu.fooled_at == here.fooled_at);
      const auto x = on_host(gpu.adversarial), c = on_host(v.images);
      for (size_t first = 0; first < x.size(); first += 90) {
        double largest = 0, squares = 0;
        for (size_t i = first; i < first + 90; ++i) {
          const double d = std::abs(double(x[i]) - double(c[i]));
          largest = std::max(largest, d);
          squares += d * d;
          CHECK((x[i] >= 0 && x[i] <= 1));
        }
        CHECK((norm == Norm::linf ? largest : std::sqrt(squares)) <= threat.eps * (1 + 1e-6));
      }
    }
  }
}

}  // namespace moat::tests
