#include "attacks/apgd.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>

#include "engine/ops/linalg.h"
#include "engine/ops/reduce.h"
#include "engine/ops/shape.h"
#include "engine/random.h"
#include "tests/models_fixture.h"

namespace moat::tests {

using namespace engine;
using namespace attacks;

namespace {

const Device kGpu{Device::cuda, 0};
constexpr int64_t kImages = 13, kPixels = 21, kClasses = 5;

Model linear_model(Device device) {
  const Tensor weight =
                   random_uniform({kClasses, kPixels}, row_numbers(kClasses), {.seed = 2}, -1, 1)
                       .to(device),
               bias = Tensor::zeros({kClasses}).to(device);
  return {.forward = [=](const Tensor& images, attacks::Gate) {
    return Outputs{linear(reshape(images, {images.dim(0), -1}), weight, bias)};
  }};
}

// Labelled as the model sees them.
Victims victims_on(Device device) {
  const Tensor ids = row_numbers(kImages),
               images = random_uniform({kImages, kPixels, 1, 1}, ids, {.seed = 3}, 0.2, 0.8),
               labels = argmax(linear_model({}).forward(images, attacks::Gate::open).logits, 1);
  return {images.to(device), labels.to(device), ids.to(device), {}};
}

}  // namespace

TEST_CASE("gpu: Auto-PGD finds what it finds on a CPU, image by image", "[gpu][attacks]") {
  for (const Norm norm : {Norm::linf, Norm::l2})
    for (const Loss loss : {Loss::cross_entropy, Loss::dlr, Loss::dlr_targeted}) {
      INFO("norm " << int(norm) << ", " << attacks::name_of(loss));
      const Apgd settings{.threat = {norm, norm == Norm::linf ? 0.06 : 0.25},
                          .steps = 10,
                          .restarts = 2,
                          .objective = {.loss = loss},
                          .targets = loss == Loss::dlr_targeted ? 2 : 0};
      const AttackResult want = apgd(linear_model({}), victims_on({}), settings),
                         got = apgd(linear_model(kGpu), victims_on(kGpu), settings);
      CHECK(got.fooled_at == want.fooled_at);
      const auto fooled =
          std::count_if(got.fooled_at.begin(), got.fooled_at.end(), [](int at) { return at >= 0; });
      CHECK(fooled > 0);
      CHECK(fooled < kImages);
      const auto x = got.adversarial.to_vector<float>(), y = want.adversarial.to_vector<float>();
      double apart = 0;
      for (size_t i = 0; i < x.size(); ++i)
        apart = std::max(apart, std::abs(double{x[i]} - double{y[i]}));
      CHECK(apart < 1e-5);
      // On the GPU some fooled images stay in the batch: they change nothing.
      const std::vector<int32_t> rows = {2, 5, 11};
      const AttackResult part = apgd(linear_model(kGpu), victims_on(kGpu).rows(rows), settings);
      const Tensor of_rows = gather_rows(got.adversarial, index_of(rows, kGpu));
      CHECK(part.adversarial.to_vector<float>() == of_rows.to_vector<float>());
    }
}

}  // namespace moat::tests
