#include <algorithm>
#include <catch2/catch.hpp>

#include "attacks/fab.h"
#include "attacks/pgd.h"
#include "attacks/protocol.h"
#include "data/digits.h"
#include "engine/io/file.h"
#include "engine/ops/reduce.h"
#include "engine/ops/shape.h"
#include "models/checkpoint.h"
#include "tests/models_fixture.h"
#include "tests/temporary_folder.h"
#include "train/certify/certificate_files.h"
#include "train/certify/output_bounds.h"
#include "train/evaluate.h"
#include "train/numbers.h"
#include "train/objective.h"
#include "train/trainer.h"

namespace moat::tests {

using namespace engine;
using namespace train;
using Catch::Matchers::Contains;
using models::Classifier;
using models::ClassifierSettings;

namespace {

constexpr int64_t kImages = 2;
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
  return models::dual_of(
      "dual", {.standard = standard, .robust = robust, .alpha = alpha, .average = average});
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
  int images = 0, positive = 0, by_affine = 0, by_lipschitz = 0, contradicted = 0, fooled = 0;
  double closest = kInfinity;  // distance found over radius, the smallest
};

// 25 models of a kind: at the radius of an image, and at thrice it.
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
      CHECK(image.radius == std::max({image.interval, image.affine, image.lipschitz}));
      tally.by_affine += image.affine > image.interval;
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
  CHECK(tally.by_affine > 0);
  INFO("of " << tally.images << " images " << tally.positive << " are certified, "
             << tally.by_lipschitz << " by constants; " << tally.fooled
             << " were fooled somewhere, at " << tally.closest << " radii or more");
  CHECK(tally.contradicted == 0);
  CHECK(tally.positive >= tally.images / 2);
  CHECK(tally.fooled >= tally.images / 3);
  CHECK(tally.closest > 1);
  CHECK(tally.closest < 5);  // a radius of five times as much would be found out
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

// At every eps the proven accuracy is at most that under attack, wrong images included.
TEST_CASE("certify: the certified curve lies below the attacked one", "[certify]") {
  Classifier model = random_model(networks(3, 1), 4);
  data::ImageSet set = random_set(model, 4, 24);
  for (size_t i = 0; i < 5; ++i) set.labels[i] = (set.labels[i] + 1) % 3;
  const Certification proven = certify(model, set, {.batch = 7, .sampled_images = 4});
  CHECK(proven.route_radius == RouteRadius::exact);
  CHECK(proven.certified(set, 0) == 19);
  int64_t before = 19;
  for (double eps : {0.001, 0.003, 0.01, 0.03, 0.1, 0.3}) {
    const attacks::Protocol protocol =
        attacks::find_protocol("pgd-10@1", {Norm::linf, eps}, 0, attack_model(model));
    const Evaluation attacked = evaluate(model, set, protocol);
    const int64_t certified = proven.certified(set, eps);
    INFO("eps " << eps);
    CHECK(certified <= attacked.robust_correct(set));
    CHECK(certified <= before);
    before = certified;
    for (size_t i = 0; i < proven.images.size(); ++i)
      CHECK((proven.images[i].certified_for(set.labels[i]) < eps ||
             attacked.samples[i].is_robust(set.labels[i])));
  }
  CHECK(before < 19);
  // Neither the company nor the order of a batch matters.
  const Certification other = certify(model, set, {.batch = 24, .sampled_images = 4});
  for (size_t i = 0; i < proven.images.size(); ++i) {
    CHECK(proven.images[i].radius == other.images[i].radius);
    CHECK(proven.images[i].route_radius == other.images[i].route_radius);
  }
}

// What interval bounds say of a linear router is the closed form: one ends where the other does.
TEST_CASE("certify: the exact route radius is that of the model", "[certify]") {
  const Classifier model = random_model(networks(3, 1), 6);
  const data::ImageSet set = random_set(model, 6, 12);
  const Tensor images = data::batch_of(set).images;
  const Certification proven = certify(model, set, {.sampled_images = 1});
  const auto routes = model.forward(images, Mode::eval).experts.to_vector<int32_t>();
  int finite = 0;
  for (int64_t i = 0; i < set.size(); ++i) {
    const double radius = proven.images[size_t(i)].route_radius;
    CHECK(proven.images[size_t(i)].route == routes[size_t(i)]);
    if (!(radius < kInfinity)) continue;
    ++finite;
    const Tensor image = images.sliced(0, i, i + 1).contiguous();
    const auto kept = [&](double eps) -> bool {
      return keeps_route(model, box_around(image, std::vector<double>{eps}),
                         std::vector<int32_t>{routes[size_t(i)]})[0];
    };
    CHECK(kept(0.99 * radius - 1e-3));
    CHECK_FALSE(kept(1.001 * radius));
  }
  CHECK(finite >= 6);
}

// Each expert always says its own number: the prediction ends exactly where the route does.
TEST_CASE("certify: what another expert would say counts as far as it is reached", "[certify]") {
  Classifier model = random_model(networks(2, 1), 9);
  for (const NamedTensor& t : state_of(model)) {
    if (t.name.ends_with("fc.weight")) t.value->fill(0);
    if (!t.name.ends_with("fc.bias")) continue;
    t.value->data_as<float>()[t.name.starts_with("experts.0") ? 0 : 1] = 1;
    t.value->mark_written();
  }
  int finite = 0;
  for (const ImageCertificate& image :
       certify(model, random_set(model, 9, 12), {.sampled_images = 1}).images) {
    CHECK(image.prediction == image.route);
    CHECK(image.radius <= image.route_radius);
    if (!(image.route_radius < 1)) continue;
    ++finite;
    CHECK(image.interval == Approx(image.route_radius).epsilon(0.01).margin(1e-4));
    CHECK(image.lipschitz == Approx(image.route_radius).epsilon(0.5));
  }
  CHECK(finite >= 6);
}

// Gradients at images are below the constants on all images, the local ones between them.
TEST_CASE("certify: constants are above what is sampled", "[certify]") {
  for (const ClassifierSettings& settings :
       {small_net(), networks(3, 3), convolutions(),
        dual(small_net(), networks(2, 1), 0.7, models::Average::logits)}) {
    const Classifier model = random_model(settings, 8);
    const Certification proven =
        certify(model, random_set(model, 8, 16), {.eps = 0.01, .sampled_images = 16});
    CHECK(proven.sampled_images == 16);
    for (const LipschitzConstant& constant : proven.constants) {
      INFO(constant.name);
      CHECK(constant.sampled <= constant.local * (1 + 1e-5));
      CHECK(constant.local <= constant.bound * (1 + 1e-9));
      if (constant.name.ends_with("weights")) continue;  // of the scores' sample
      CHECK(constant.sampled > 0.001 * constant.bound);
    }
  }
}

// On the images of a linear router the constant is ‖W_i - W_j‖₁ over the deviation: exact.
TEST_CASE("certify: a linear router's constant is exact", "[certify]") {
  const Classifier model = random_model(networks(2, 1), 2);
  const ModelConstants constants = model_constants(model);
  const std::optional<Linear> router = model.linear_router();
  REQUIRE(router.has_value());
  const auto w = router->weight.to_vector<double>();
  double norm = 0;
  for (size_t p = 0; p < w.size() / 2; ++p) norm += std::abs(w[p] - w[p + w.size() / 2]);
  CHECK(constants.scores.at(0, 1) == Approx(norm));
  CHECK(constants.gate(0) == Approx(norm / 4));
  // As the model itself computes it, normaliser included.
  const Tensor images = data::batch_of(random_set(model, 2)).images;
  const auto scores = model.forward(images, Mode::eval).scores.to(Dtype::f64).to_vector<double>();
  const auto x = images.to(Dtype::f64).to_vector<double>();
  const auto b = router->bias.to_vector<double>();
  for (size_t e = 0; e < 2; ++e) {
    double score = b[e];
    for (size_t p = 0; p < w.size() / 2; ++p) score += w[e * w.size() / 2 + p] * x[p];
    CHECK(scores[e] == Approx(score).epsilon(1e-5));
  }
  CHECK_FALSE(Classifier(convolutions(), 0).linear_router().has_value());
}

TEST_CASE("certify: a dual model below alpha 1/2 is not proven by the robust one", "[certify]") {
  const auto says = [](double alpha, models::Average average) {
    const Classifier model(dual(small_net(), small_net(), alpha, average), 0);
    return proof_methods(model, RouteRadius::none)[3];
  };
  CHECK_FALSE(says(0.5, models::Average::probabilities).applies);
  CHECK(says(0.5, models::Average::probabilities).says.find("alpha above 1/2") !=
        std::string::npos);
  CHECK_FALSE(says(0.8, models::Average::logits).applies);
  CHECK(says(0.8, models::Average::probabilities).applies);
  const Classifier dense(small_net(), 0), soft(networks(2, 2), 0);
  CHECK_FALSE(proof_methods(dense, RouteRadius::none)[4].applies);
  CHECK(proof_methods(soft, RouteRadius::none)[4].says.find("soft gate") != std::string::npos);
  CHECK_FALSE(proof_methods(dense, RouteRadius::none)[3].applies);
}

// 1e4 and a difference of 6e-4: float32 knows such a logit to 1e-3, and takes the other class where
// the difference is smaller.
TEST_CASE("certify: float32 is relative to logits, not to their differences", "[certify]") {
  Classifier model = random_model(small_net(), 1);
  const Tensor image = data::batch_of(random_set(model, 1, 1)).images;
  for (const NamedTensor& t : state_of(model)) {
    if (t.name == "fc.bias") t.value->copy_from(Tensor::from<float>({1e4f, 1e4f, 9997}, {3}));
    if (t.name != "fc.weight") continue;
    std::vector<float> weight(static_cast<size_t>(t.value->size()));
    std::fill_n(weight.begin() + t.value->dim(1), t.value->dim(1), 1.0f);
    t.value->copy_from(Tensor::from(weight, t.value->shape()));
    const Bounds point = box_around(image, std::vector<double>{0.0});
    const double lead = model.logit_differences(point, 0).low.data_as<double>()[1 * 3 + 0];
    t.value->copy_from(scale(*t.value, 6e-4 / lead));
  }
  const data::ImageSet set = random_set(model, 1, 1);
  CHECK(set.labels[0] == 1);
  const double radius = certify(model, set, {.sampled_images = 1}).images[0].radius;
  CHECK(radius < nearest_found(model, set, {std::max(radius, 1e-4)})[0]);
}

TEST_CASE("certify: a model of nothing but NaN is not certified", "[certify]") {
  Classifier model = random_model(small_net(), 1);
  const data::ImageSet set = random_set(model, 1);
  for (const NamedTensor& t : state_of(model))
    if (t.name == "fc.bias") t.value->fill(std::nan(""));
  for (const ImageCertificate& image : certify(model, set, {.sampled_images = 1}).images)
    CHECK(image.radius == 0);
}

TEST_CASE("certify: a stop is heard", "[certify]") {
  const Classifier model = random_model(small_net(), 1);
  CHECK_THROWS_WITH(
      certify(model, random_set(model, 1), {.stop_requested = [] { return true; }}),
      Contains("stopped after 2 of 2 images; certificates are written when all are done"));
  CHECK_THROWS_WITH(certify(model, random_set(model, 1), {.batch = 0}), Contains("at least 1"));
}

TEST_CASE("certify: its files say what was found", "[certify]") {
  const TemporaryFolder folder;
  const Classifier model = random_model(networks(2, 1), 3);
  data::ImageSet set = random_set(model, 3, 3);
  set.labels[1] = (set.labels[1] + 1) % 3;
  Certification proven = certify(model, set, {.sampled_images = 2});
  proven.resisted = {2, 2, 0};
  write_radii(folder.path() / "radii.csv", proven, set);
  const std::string csv = read_file(folder.path() / "radii.csv");
  CHECK(csv.starts_with(
      "index,label,prediction,route,radius,interval,affine,lipschitz,route_radius\n0,"));
  CHECK(std::count(csv.begin(), csv.end(), '\n') == 4);
  const auto json =
      certificate_json(proven, {model, "m.safetensors", "abc", set, "pgd-10@1", {0.0, 1e-5, 0.5}});
  const auto& results = json.at("results");
  CHECK(results.at("clean") == Approx(2.0 / 3));
  CHECK(results.at("curve").size() == 3);
  CHECK(results.at("curve")[0].at("certified") == Approx(2.0 / 3));
  CHECK(results.at("curve")[2].at("attacked") == 0);
  CHECK(results.at("route_radius").at("kind") == "exact");
  CHECK(json.at("constants").size() == 3);
  CHECK(json.at("methods").size() == 5);
}

TEST_CASE("numbers: lists and ranges", "[certify]") {
  CHECK(parse_numbers("0.25", "--eps") == std::vector<double>{0.25});
  CHECK(parse_numbers("0,1/4,0.5", "--eps") == std::vector<double>{0, 0.25, 0.5});
  const std::vector<double> range = parse_numbers("0.5:1:0.05", "--alpha");
  REQUIRE(range.size() == 11);
  CHECK(range.front() == 0.5);
  CHECK(range.back() == Approx(1));
  CHECK(parse_numbers("0:1:0.3", "--eps").size() == 4);
  CHECK(parse_numbers("2/255:2/255:1", "--eps").size() == 1);
  for (const char* wrong : {"", ",", "1,", "1:2", "1:2:3:4", "2:1:0.1", "0:1:0", "0:1:-1",
                            "0:1:1e-9", "0.2,0.1", "a", "0:b:1", "nan"}) {
    INFO(wrong);
    CHECK_THROWS_WITH(parse_numbers(wrong, "--eps"), Contains("--eps must be"));
  }
}

// A net trained briefly, mixture and router included.
TEST_CASE("certify: the digits", "[certify][.long]") {
  const TemporaryFolder folder;
  Config config;
  config.model.name = "digits-moe-resnet";
  config.data.limit = 512;
  config.train.method = "at";
  config.train.epochs = 3;
  config.train.batch = 100;
  config.train.steps = 2;
  config.eval.validation_steps = 2;
  config.run.dir = (folder.path() / "run").string();
  train::train(config, Resume::never, {});
  Classifier model = std::move(models::load_model(checkpoint_of(folder.path() / "run")).model);
  const data::ImageSet set = data::first_rows(data::digits(data::Split::test), 16);
  const Certification proven = certify(model, set, {.eps = 0.01});
  for (double eps : {1e-5, 1e-4, 1e-3, 0.01, 0.1}) {
    const attacks::Protocol protocol =
        attacks::find_protocol("pgd-10@1", {Norm::linf, eps}, 0, attack_model(model));
    const Evaluation attacked = evaluate(model, set, protocol);
    INFO("eps " << eps);
    CHECK(proven.certified(set, eps) <= attacked.robust_correct(set));
  }
  CHECK(proven.certified(set, 1e-5) > 0);
}

}  // namespace moat::tests
