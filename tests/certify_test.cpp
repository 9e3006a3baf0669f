#include <algorithm>
#include <catch2/catch.hpp>

#include "attacks/fab.h"
#include "attacks/pgd.h"
#include "engine/ops/reduce.h"
#include "engine/ops/shape.h"
#include "tests/models_fixture.h"
#include "train/certify/certificate.h"
#include "train/evaluate.h"
#include "train/objective.h"

namespace moat::tests {

using namespace engine;
using namespace train;
using Catch::Matchers::Contains;
using models::Classifier;
using models::ClassifierSettings;

namespace {

constexpr int64_t kImages = 3;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Nets of one block on images of 4 x 4 in 3 classes.
ClassifierSettings small_net() {
  ClassifierSettings s;
  s.name = "small";
  s.blocks = {1};
  s.widths = {4};
  s.stem_width = 4;
  s.height = s.width = 4;
  s.channels = 1;
  s.classes = 3;
  s.mean = {0.4};
  s.deviation = {0.3};
  return s;
}

ClassifierSettings networks(int experts, int active) {
  ClassifierSettings s = small_net();
  s.experts = experts;
  s.active = active;
  s.experts_are = models::Experts::networks;
  s.router.score_norm = active > 1;
  return s;
}

ClassifierSettings convolutions() {
  ClassifierSettings s = small_net();
  s.experts = 2;
  s.router.blocks = {1};
  s.router.widths = {4};
  return s;
}

ClassifierSettings dual(const ClassifierSettings& standard, const ClassifierSettings& robust,
                        double alpha, models::Average average) {
  return dual_of("dual",
                 {.standard = standard, .robust = robust, .alpha = alpha, .average = average});
}

// Norms as after training, and last layers whose logits are apart.
Classifier random_model(const ClassifierSettings& settings, uint64_t seed) {
  Classifier model(settings, seed);
  stir(model);
  for (const NamedTensor& t : state_of(model)) {
    if (t.name.ends_with("fc.bias")) t.value->fill(0);
    if (t.name.ends_with("fc.weight")) t.value->copy_from(scale(*t.value, 60));
  }
  return model;
}

// Random bytes, labelled as the model predicts them.
data::ImageSet random_set(const Classifier& model, uint64_t seed, int64_t n = kImages) {
  const ClassifierSettings& s = model.settings();
  data::ImageSet set{.height = s.height, .width = s.width, .channels = s.channels};
  std::vector<uint8_t> pixels(static_cast<size_t>(n * set.image_bytes()));
  for (size_t i = 0; i < pixels.size(); ++i)
    pixels[i] = static_cast<uint8_t>(random_bits({.seed = seed}, uint32_t(i)) >> 24);
  set.pixels = std::move(pixels);
  set.labels.assign(static_cast<size_t>(n), 0);
  set.class_names = {"a", "b", "c"};
  set.name = "noise";
  for (int64_t i = 0; i < n; ++i) set.ids.push_back(static_cast<int32_t>(i));
  const Tensor images = data::batch_of(set).images;
  set.labels = argmax(model.forward(images, Mode::eval).logits, 1).to_vector<int32_t>();
  return set;
}

// The smallest L∞ distance at which any of a small set of attacks changed a prediction: FAB from
// the image, and PGD and APGD with the gate open and blocked in balls of these radii.
std::vector<double> nearest_found(const Classifier& model, const data::ImageSet& set,
                                  const std::vector<double>& radii) {
  const attacks::Model target = attack_model(model);
  const data::Batch batch = data::batch_of(set);
  const attacks::Victims victims{batch.images, batch.labels, batch.ids, {}};
  std::vector<double> nearest(static_cast<size_t>(set.size()), kInfinity);
  const Tensor images = batch.images.to(Dtype::f64);
  const auto look = [&](const Tensor& points, auto&& is_fooled) {
    const Tensor moved = max(reshape(abs(sub(points.to(Dtype::f64), images)), {set.size(), -1}), 1);
    for (size_t i = 0; i < nearest.size(); ++i)
      if (is_fooled(i)) nearest[i] = std::min(nearest[i], moved.data_as<double>()[i]);
  };
  const auto fab = attacks::fab_nearest(
      target, victims,
      {.threat = {Norm::linf, 1}, .steps = 6, .targets = 2, .goal = attacks::Goal::minimise});
  look(fab.points, [&](size_t i) { return fab.found_at[i] >= 0; });
  for (double eps : radii)
    for (const attacks::Gate gate : {attacks::Gate::open, attacks::Gate::blocked}) {
      if (gate == attacks::Gate::blocked && !model.is_routed()) continue;
      const attacks::Pgd settings{
          .threat = {Norm::linf, eps}, .steps = 5, .step = eps / 2, .objective = {.gate = gate}};
      const attacks::AttackResult found = attacks::pgd(target, victims, settings);
      look(found.adversarial, [&](size_t i) { return found.fooled_at[i] >= 0; });
    }
  return nearest;
}

struct Tally {
  int images = 0, positive = 0, by_lipschitz = 0, contradicted = 0, fooled = 0;
  double closest = kInfinity;  // distance found over radius, the smallest
};

// 25 models of a kind: at the radii of its images, and at thrice the largest.
Tally tally_of(const ClassifierSettings& settings) {
  Tally tally;
  for (uint64_t seed = 0; seed < 25; ++seed) {
    const Classifier model = random_model(settings, seed);
    const data::ImageSet set = random_set(model, seed);
    const Certification proven = certify(model, set, {.sampled_images = 1});
    std::vector<double> radii;
    for (const ImageCertificate& image : proven.images) radii.push_back(image.radius);
    std::sort(radii.begin(), radii.end());
    const double largest = std::max(radii.back(), 1e-3);
    const std::vector<double> found =
        nearest_found(model, set, {std::max(radii[1], 1e-4), std::min(1.0, 3 * largest)});
    for (size_t i = 0; i < found.size(); ++i) {
      const ImageCertificate& image = proven.images[i];
      CHECK(image.prediction == set.labels[i]);
      CHECK(image.radius == std::max(image.interval, image.lipschitz));
      ++tally.images;
      tally.positive += image.radius > 0;
      tally.by_lipschitz += image.lipschitz > 0;
      tally.contradicted += !(image.radius < found[i]);
      tally.fooled += found[i] < kInfinity;
      tally.closest = std::min(tally.closest, found[i] / image.radius);
    }
  }
  return tally;
}

void check_sound(const ClassifierSettings& settings) {
  const Tally tally = tally_of(settings);
  INFO("of " << tally.images << " images " << tally.positive << " are certified, "
             << tally.by_lipschitz << " by constants; " << tally.fooled
             << " were fooled somewhere, at " << tally.closest << " radii or more");
  CHECK(tally.contradicted == 0);
  CHECK(tally.positive >= tally.images / 2);
  CHECK(tally.fooled >= tally.images / 2);
  CHECK(tally.closest > 1);
  CHECK(tally.closest < 100);
}

}  // namespace

// 200 random mixtures: nothing that an attack finds is nearer than what is proven.
TEST_CASE("certify: dense nets", "[certify]") { check_sound(small_net()); }
TEST_CASE("certify: soft mixtures", "[certify]") { check_sound(networks(3, 3)); }
TEST_CASE("certify: top-2 mixtures", "[certify]") { check_sound(networks(3, 2)); }
TEST_CASE("certify: hard mixtures, linear router", "[certify]") { check_sound(networks(3, 1)); }
TEST_CASE("certify: hard mixtures of convolutions", "[certify]") { check_sound(convolutions()); }
TEST_CASE("certify: dual models on logits", "[certify]") {
  check_sound(dual(small_net(), networks(2, 1), 0.7, models::Average::logits));
}
TEST_CASE("certify: dual models on probabilities", "[certify]") {
  check_sound(dual(small_net(), networks(2, 2), 0.8, models::Average::probabilities));
}
TEST_CASE("certify: dual models with a standard one of most weight", "[certify]") {
  check_sound(dual(networks(2, 1), small_net(), 0.3, models::Average::probabilities));
}

}  // namespace moat::tests
