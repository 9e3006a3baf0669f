#include <catch2/catch.hpp>

#include "data/digits.h"
#include "engine/nn/module.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/loss.h"
#include "engine/ops/reduce.h"
#include "engine/ops/shape.h"
#include "engine/optim/flat.h"
#include "engine/tape.h"
#include "models/zoo.h"
#include "tests/models_fixture.h"

namespace moat::tests {

using namespace engine;
using models::Classifier;
using models::ClassifierSettings;

namespace {

ClassifierSettings row(const std::string& name) { return models::find_model(name).settings; }

int64_t count_outside_router(Classifier& model) {
  int64_t count = 0;
  for (const NamedTensor& t : model.expert_parameters()) count += t.value->size();
  return count;
}

int64_t count_router(Classifier& model) {
  int64_t count = 0;
  for (const NamedTensor& t : model.router_parameters()) count += t.value->size();
  return count;
}

// Bytes of the logits and routes of `images`, asked for in batches of this size.
std::pair<std::vector<float>, std::vector<int32_t>> answers(const Classifier& model,
                                                            const Tensor& images, int64_t batch) {
  std::vector<float> logits;
  std::vector<int32_t> routes;
  for (int64_t from = 0; from < images.dim(0); from += batch) {
    const int64_t to = std::min(images.dim(0), from + batch);
    const models::Prediction p = model.forward(images.sliced(0, from, to), Mode::eval);
    for (float v : p.logits.to_vector<float>()) logits.push_back(v);
    if (p.experts.defined())
      for (int32_t e : p.experts.to_vector<int32_t>()) routes.push_back(e);
  }
  return {logits, routes};
}

void check_batch_sizes(const ClassifierSettings& settings, int64_t images,
                       const std::vector<int64_t>& batches) {
  INFO(settings.name);
  Classifier model(settings, 1);
  stir(model);
  const Tensor x = random_images(images, settings);
  if (model.is_routed()) balance_router(model, x, {0, 0}, Mode::eval);
  const auto whole = answers(model, x, images);
  if (model.is_routed()) {
    const auto served = std::count(whole.second.begin(), whole.second.end(), 0);
    CHECK(served > 0);
    CHECK(served < images);
  }
  for (int64_t batch : batches) {
    INFO("batches of " << batch);
    const auto parts = answers(model, x, batch);
    CHECK(
        std::equal(whole.first.begin(), whole.first.end(), parts.first.begin(), parts.first.end()));
    CHECK(whole.second == parts.second);
  }
}

}  // namespace

// The counts and costs of the published models.
TEST_CASE("zoo: parameters", "[models]") {
  Classifier dense(row("resnet18"), 0);
  CHECK(count_parameters(dense) == 11'173'962);
  Classifier released(row("moe-resnet18-released"), 0);
  CHECK(count_outside_router(released) == 5'565'450);
  CHECK(count_router(released) == 269'202);
  Classifier consistent(row("moe-resnet18"), 0);
  CHECK(count_outside_router(consistent) == 5'543'978);
  CHECK(count_router(consistent) == 269'202);
  CHECK(count_parameters(consistent) == 5'543'978 + 269'202);
}

TEST_CASE("zoo: multiply-accumulates of an image", "[models]") {
  const auto giga = [](int64_t macs) { return Approx(double(macs) / 1e9).margin(0.0005); };
  const auto dense = Classifier(row("resnet18"), 0).cost();
  CHECK(0.555 == giga(dense.path));
  CHECK(dense.path == dense.all_experts);
  CHECK(dense.router == 0);
  const auto released = Classifier(row("moe-resnet18-released"), 0).cost();
  CHECK(0.152 == giga(released.path));
  CHECK(0.041 == giga(released.router));
  CHECK(0.192 == giga(released.executed()));
  CHECK(0.339 == giga(released.all_experts));
  // By hand, layer by layer: a stem of 32 filters, and block convolutions of half the width each
  // way, two per bank.
  const int64_t stem = 1024 * 27 * 32, head = 256 * 10;
  const int64_t first = 4 * 1024 * 9 * 32 * 32, halves = 3 * (9 * 1024 / 2 * 32 * 32);
  const int64_t others = 3 * 3 * 1024 * 9 * 32 * 32, shortcuts = 3 * (1024 / 2 * 32 * 32);
  const auto consistent = Classifier(row("moe-resnet18"), 0).cost();
  CHECK(consistent.path == stem + first + halves + others + shortcuts + head);
  CHECK(consistent.router == released.router);
  CHECK(consistent.all_experts ==
        stem + 2 * (first + halves + others) + shortcuts + head + consistent.router);
  CHECK(0.139 == giga(consistent.path));
  CHECK(0.317 == giga(consistent.all_experts));
}

TEST_CASE("zoo: a deep transformer costs what the mixture does", "[models]") {
  for (const auto& [deep, mixture, share] :
       {std::tuple{"digits-vit-deep", "digits-v-moe", 0.05},
        {"vit-small-deep-patch4-32", "v-moe-small-patch4-32", 0.03},
        {"vit-small-deep-patch8-64", "v-moe-small-patch8-64", 0.03}}) {
    INFO(deep);
    const auto cost = [](const char* name) {
      return double(Classifier(row(name), 0).cost().executed());
    };
    CHECK(cost(deep) == Approx(cost(mixture)).epsilon(share));
  }
}

TEST_CASE("batch size: an image's logits and route are the same bits", "[models][batch-size]") {
  check_batch_sizes(row("digits-resnet"), 256, {1, 7});
  ClassifierSettings digits = row("digits-moe-resnet");
  digits.height = digits.width = 8;
  digits.channels = 1;
  check_batch_sizes(digits, 256, {1, 7});
  ClassifierSettings odd = tiny_moe(2);
  odd.widths = {10, 22};  // channels that fill no vector
  check_batch_sizes(odd, 256, {1, 7});
}

TEST_CASE("batch size: the same bits from ResNet-18 and its mixture",
          "[.long][models][batch-size]") {
  check_batch_sizes(row("resnet18"), 14, {1, 7});
  check_batch_sizes(row("moe-resnet18"), 14, {1, 7});
}

TEST_CASE("models: 32 digits are learnt by heart", "[models]") {
  const bool routed = GENERATE(false, true);
  const data::ImageSet digits = data::first_rows(data::digits(data::Split::train), 32);
  ClassifierSettings s = routed ? tiny_moe(2) : tiny_dense();
  s.channels = 1;
  s.classes = 10;
  s.init = models::Init::uniform;
  Classifier model(s, 0);
  FlatParameters parameters(parameters_of(model));
  const data::Batch batch = data::batch_of(digits);
  double loss = 0;
  for (int i = 0; i < 400; ++i) {
    Tape tape;
    parameters.watch(tape);
    const models::Prediction p = model.forward(batch.images, Mode::train);
    const Tensor mean_loss = mean(cross_entropy(p.logits, batch.labels));
    loss = mean_loss.item();
    parameters.collect(tape.gradients(mean_loss));
    parameters.step({.lr = 0.03, .momentum = 0.9});
  }
  CHECK(loss < 0.05);
}

TEST_CASE("models: the seed decides the weights", "[models]") {
  const ClassifierSettings s = tiny_moe(2);
  Classifier a(s, 5), b(s, 5), c(s, 6);
  CHECK(fingerprint(a) == fingerprint(b));
  CHECK(fingerprint(a) != fingerprint(c));
}

TEST_CASE("models: folded weights follow the weights", "[models]") {
  Classifier model(tiny_moe(2), 0);
  const Tensor x = random_images(8, model.settings());
  const auto before = model.forward(x, Mode::eval).logits.to_vector<float>();
  model.forward(random_images(8, model.settings(), 1), Mode::train);  // running statistics move
  const auto after = model.forward(x, Mode::eval).logits.to_vector<float>();
  CHECK(before != after);
  Tape tape;  // recorded parameters take the unfolded path
  for (const NamedTensor& t : parameters_of(model)) *t.value = tape.watch(*t.value);
  const auto unfolded = model.forward(x, Mode::eval).logits.to_vector<float>();
  for (size_t i = 0; i < after.size(); ++i) CHECK(after[i] == Approx(unfolded[i]).margin(1e-5));
}

TEST_CASE("models: a given route is taken", "[models]") {
  Classifier model(tiny_moe(2), 0);
  stir(model);
  const Tensor x = random_images(6, model.settings());
  const models::Prediction p = model.forward(x, Mode::eval);
  CHECK(model.forward_along(x, p.experts, Mode::eval).to_vector<float>() ==
        p.logits.to_vector<float>());
  std::vector<int32_t> other;
  for (int32_t e : p.experts.to_vector<int32_t>()) other.push_back(1 - e);
  CHECK(model.forward_along(x, Tensor::from(other, {6}), Mode::eval).to_vector<float>() !=
        p.logits.to_vector<float>());
  Classifier dense(tiny_dense(), 0);
  CHECK_THROWS_WITH(dense.forward_along(x, p.experts, Mode::eval), Catch::Contains("dense"));
}

TEST_CASE("zoo: an unknown name is answered with the known ones", "[models]") {
  CHECK_THROWS_AS(models::find_model("resnet19"), UsageError);
  CHECK_THROWS_WITH(models::find_model("resnet19"), Catch::Contains("resnet18"));
}

TEST_CASE("models: option A needs widths that never shrink", "[models]") {
  ClassifierSettings s = tiny_moe(2);
  s.shortcut = models::Shortcut::pad;
  s.scaled_stem = false;  // 8 channels into 4
  CHECK_THROWS_WITH(Classifier(s, 0), Catch::Contains("option A") || Catch::Contains("pad"));
}

}  // namespace moat::tests
