#include <catch2/catch.hpp>
#include <cmath>
#include <map>

#include "data/digits.h"
#include "engine/nn/filter_choice.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/loss.h"
#include "engine/ops/reduce.h"
#include "engine/ops/shape.h"
#include "engine/optim/flat.h"
#include "engine/tape.h"
#include "models/checkpoint.h"
#include "models/zoo.h"
#include "tests/models_fixture.h"

namespace moat::tests {

using namespace engine;
using models::Classifier;
using models::ClassifierSettings;
using models::GateGradient;

namespace {

double inner(const Tensor& a, const Tensor& b) { return sum(mul(a, b)).item(); }

// <direction, gradient> of `loss` at every tensor of `moved` together, by central differences.
template <class Loss>
double slope(const std::vector<Tensor>& moved, const std::vector<Tensor>& directions, double step,
             Loss&& loss) {
  double ends[2];
  std::vector<Tensor> saved;
  for (const Tensor& t : moved) saved.push_back(t.clone());
  for (int side = 0; side < 2; ++side) {
    for (size_t i = 0; i < moved.size(); ++i)
      moved[i].copy_from(add(saved[i], scale(directions[i], side ? step : -step)));
    ends[side] = loss();
  }
  for (size_t i = 0; i < moved.size(); ++i) moved[i].copy_from(saved[i]);
  return (ends[1] - ends[0]) / (2 * step);
}

int64_t parameters_outside_router(const std::string& name) {
  const InitStream unwritten{.fill = InitStream::Fill::none};  // there are 267 million
  Classifier model(models::find_model(name).settings, unwritten);
  int64_t count = 0;
  for (const NamedTensor& t : model.expert_parameters()) count += t.value->size();
  return count;
}

}  // namespace

// The published counts, and those of the AdvMoE release without its router.
TEST_CASE("zoo: parameters of every family", "[models]") {
  CHECK(parameters_outside_router("wrn-28-10") == 36'479'194);
  CHECK(parameters_outside_router("wrn-34-10") == 46'160'474);
  CHECK(parameters_outside_router("wrn-34-15") == 103'819'674);
  CHECK(parameters_outside_router("wrn-34-20") == 184'531'674);
  CHECK(parameters_outside_router("wrn-70-16") == 266'796'506);
  CHECK(parameters_outside_router("preact-resnet18") == 11'172'170);
  CHECK(parameters_outside_router("preact-resnet18-raw-shortcut") == 11'172'170);
  CHECK(parameters_outside_router("preact-resnet18-wong2020") == 11'171'146);
  CHECK(parameters_outside_router("moe-wrn-28-10-released") == 18'239'602);
  CHECK(parameters_outside_router("moe-wrn-28-10") == 18'239'602);
  CHECK(parameters_outside_router("vgg16") == 15'311'818);
  CHECK(parameters_outside_router("vgg16-imagenet") == 138'361'768);
  CHECK(parameters_outside_router("moe-vgg16-released") == 7'690'218);
  CHECK(parameters_outside_router("densenet40") == 176'122);
  CHECK(parameters_outside_router("resnet18-imagenet") == 11'689'512);
  CHECK(parameters_outside_router("resnet50-imagenet") == 25'557'032);
  CHECK(parameters_outside_router("densenet121-imagenet") == 7'978'856);
  CHECK(parameters_outside_router("vit-small-patch16-224") == 22'050'664);
  CHECK(parameters_outside_router("vit-base-patch16-224") == 86'567'656);
}

TEST_CASE("zoo: multiply-accumulates of every family", "[models]") {
  const auto giga = [](int64_t macs) { return Approx(double(macs) / 1e9).margin(0.0005); };
  const auto cost = [](const std::string& name) {
    return Classifier(models::find_model(name).settings, 0).cost();
  };
  CHECK(5.243 == giga(cost("wrn-28-10").path));
  CHECK(6.659 == giga(cost("wrn-34-10").path));
  CHECK(0.555 == giga(cost("preact-resnet18").path));
  CHECK(1.311 == giga(cost("moe-wrn-28-10-released").path));
  CHECK(2.662 == giga(cost("moe-wrn-28-10-released").all_experts));
  CHECK(0.314 == giga(cost("vgg16").path));
  CHECK(15.470 == giga(cost("vgg16-imagenet").path));
  CHECK(0.079 == giga(cost("moe-vgg16").path));
  CHECK(0.197 == giga(cost("moe-vgg16").all_experts));
  CHECK(0.072 == giga(cost("densenet40").path));
  CHECK(0.018 == giga(cost("moe-densenet40").path));
  CHECK(1.814 == giga(cost("resnet18-imagenet").path));
  CHECK(0.483 == giga(cost("moe-resnet18-imagenet").path));
  CHECK(1.987 == giga(cost("moe-resnet18-imagenet-released").router));
}

TEST_CASE("zoo: the dense twin is what its family is", "[models]") {
  const auto twin = [](const std::string& name) {
    return models::architecture_json(models::dense_twin(models::find_model(name).settings));
  };
  const auto renamed = [](ClassifierSettings s, const std::string& name) {
    s.name = name;
    return models::architecture_json(s);
  };
  CHECK(twin("moe-wrn-28-10-released") ==
        renamed(models::find_model("wrn-28-10").settings, "moe-wrn-28-10-released"));
  const std::string wong = "preact-resnet18-wong2020";
  CHECK(twin(wong) == renamed(models::find_model(wong).settings, wong));
}

TEST_CASE("router: above 64 pixels it costs at most a tenth of the path", "[models]") {
  for (const char* name : {"moe-resnet18", "moe-wrn-28-10"}) {
    ClassifierSettings s = models::find_model(name).settings;
    for (int side : {32, 64, 96}) {
      INFO(name << " at " << side);
      s.height = s.width = side;
      const Classifier model(s, 0);
      const bool is_small = side < 64;
      CHECK(model.router_pool() == (is_small ? 1 : model.router_pool()));
      if (!is_small) CHECK(model.cost().router * 10 <= model.cost().path);
    }
  }
  ClassifierSettings full = models::find_model("moe-resnet18").settings;
  full.height = full.width = 64;
  full.router.pool = 1;
  CHECK(Classifier(full, 0).router_pool() == 1);
  full.router.pool = 65;
  CHECK_THROWS_WITH(Classifier(full, 0), Catch::Contains("65x65"));
}

TEST_CASE("families: gradients in float64", "[models][families]") {
  const Mode mode = GENERATE(Mode::eval, Mode::train);
  for (const ClassifierSettings& s : small_families()) {
    INFO(s.name << (mode == Mode::train ? ", train" : ", eval"));
    Classifier model(s, 3);
    stir(model);
    convert(model, Dtype::f64);
    Tensor images = random_images(7, s).to(Dtype::f64);
    const Tensor labels = random_labels(7, s.classes);
    // A hard route is a constant; weights of several experts are not. The statistics that a pass in
    // training mode moves do not enter its result.
    const bool is_weighted = s.active > 1 || !s.transformer.moe.blocks.empty();
    const GateGradient gate = is_weighted ? GateGradient::open : GateGradient::blocked;
    const auto loss_at = [&](const Tensor& x) {
      const models::Prediction p = model.forward(x, mode, gate);
      const Tensor loss = sum(cross_entropy(p.logits, labels));
      return p.tokens.auxiliary.defined() ? add(loss, scale(p.tokens.auxiliary, 10)) : loss;
    };
    std::vector<Tensor> moved = {images}, directions;
    for (const NamedTensor& t : parameters_of(model))
      if (!t.name.ends_with(".scores") && t.name.find("router") == t.name.npos)
        moved.push_back(*t.value);
    uint32_t stream = 0;
    for (const Tensor& t : moved)
      directions.push_back(random_normal({t.size(), 1}, row_numbers(t.size()),
                                         {.seed = 5, .stream = ++stream}, 0, 1, Dtype::f64)
                               .reshaped(t.shape()));
    Tape tape;
    const Tensor x = tape.watch(images);
    std::vector<Tensor> watched = {x};
    for (const NamedTensor& t : parameters_of(model))
      if (!t.name.ends_with(".scores") && t.name.find("router") == t.name.npos) {
        *t.value = tape.watch(*t.value);
        watched.push_back(*t.value);
      }
    const Gradients gradients = tape.gradients(loss_at(x));
    double expected = 0;
    for (size_t i = 0; i < watched.size(); ++i) {
      const Tensor g = gradients.of(watched[i]);
      if (g.defined()) expected += inner(g, directions[i]);
    }
    const NoTapeScope not_recorded;
    // A long step may cross a kink, a short one rounds: one of them has to be right.
    double nearest = INFINITY;
    for (double step : {1e-7, 1e-9}) {
      const double error = std::abs(
          slope(moved, directions, step, [&] { return loss_at(images).item(); }) - expected);
      nearest = std::min(nearest, error);
    }
    CHECK(nearest <= 1e-4 * std::abs(expected) + 1e-5);
  }
}

TEST_CASE("families: 32 digits are learnt by heart", "[models][families]") {
  const data::Batch batch = data::batch_of(data::first_rows(data::digits(data::Split::train), 32));
  for (ClassifierSettings s : small_families()) {
    const auto on_digits = [](ClassifierSettings& part) {
      part.channels = 1;
      part.classes = 10;
      part.init = models::Init::uniform;
    };
    on_digits(s);
    if (s.dual) {
      models::DualSettings parts = *s.dual;
      on_digits(parts.standard);
      on_digits(parts.robust);
      s = models::dual_of(s.name, parts);
    }
    INFO(s.name);
    Classifier model(s, 0);
    FlatParameters parameters(parameters_of(model));
    const bool is_transformer = s.family == models::Family::vit;
    double loss = 0;
    for (int i = 0; i < 20 || (i < 400 && loss > 0.04); ++i) {
      Tape tape;
      parameters.watch(tape);
      const Tensor mean_loss =
          mean(cross_entropy(model.forward(batch.images, Mode::train).logits, batch.labels));
      loss = mean_loss.item();
      parameters.collect(tape.gradients(mean_loss));
      parameters.clip_gradient(5);
      parameters.step({.lr = is_transformer ? 0.05 : s.dual ? 0.3 : 0.1, .momentum = 0.9});
    }
    CHECK(loss < 0.05);
  }
}

TEST_CASE("families: what was saved comes back, and computes the same", "[models][families]") {
  for (const ClassifierSettings& s : small_families()) {
    INFO(s.name);
    Classifier model(s, 4);
    stir(model);
    models::LoadedModel loaded = models::from_file(models::to_file(model, {}), "file");
    CHECK(models::architecture_json(loaded.model.settings()) == models::architecture_json(s));
    CHECK(fingerprint(loaded.model) == fingerprint(model));
    const Tensor x = random_images(5, s);
    CHECK(doubles(loaded.model.forward(x, Mode::eval).logits) ==
          doubles(model.forward(x, Mode::eval).logits));
  }
}

TEST_CASE("families: an image's logits are the same bits in any batch", "[models][batch-size]") {
  for (const ClassifierSettings& s : small_families()) {
    INFO(s.name);
    Classifier model(s, 2);
    stir(model);
    const Tensor x = random_images(40, s);
    const auto whole = doubles(model.forward(x, Mode::eval).logits);
    for (int64_t batch : {1, 7}) {
      std::vector<double> parts;
      for (int64_t from = 0; from < 40; from += batch)
        for (double v : doubles(
                 model.forward(x.sliced(0, from, std::min<int64_t>(40, from + batch)), Mode::eval)
                     .logits))
          parts.push_back(v);
      CHECK(parts == whole);
    }
  }
}

// Along one route a mixture of convolutions is the dense net of that expert's filters.
TEST_CASE("families: a path is the narrow net of its expert", "[models][families]") {
  const Mode mode = GENERATE(Mode::eval, Mode::train);
  for (const ClassifierSettings& s : small_families()) {
    const bool of_convolutions = s.experts > 1 && s.experts_are == models::Experts::convolutions;
    if (!of_convolutions) continue;
    Classifier model(s, 3);
    stir(model);
    std::map<std::string, Tensor> bank;
    for (const NamedTensor& t : state_of(model)) bank[t.name] = t.value->clone();
    ClassifierSettings narrow = s;
    narrow.experts = narrow.active = 1;
    for (int32_t e = 0; e < s.experts; ++e) {
      INFO(s.name << ", expert " << e << (mode == Mode::train ? ", train" : ", eval"));
      Classifier net(narrow, 0);
      for (const NamedTensor& t : state_of(net)) {
        const Tensor& whole = bank.at(t.name);
        const int64_t rows = t.value->dim(0);
        t.value->copy_from(whole.dim(0) == rows ? whole
                                                : whole.sliced(0, e * rows, (e + 1) * rows));
      }
      const Tensor x = random_images(6, s);
      const auto along =
          doubles(model.forward_along(x, Tensor::from(std::vector<int32_t>(6, e), {6}), mode));
      const auto alone = doubles(net.forward(x, mode).logits);
      for (size_t i = 0; i < along.size(); ++i)
        CHECK(along[i] == Approx(alone[i]).epsilon(1e-4).margin(1e-4));
      for (const NamedTensor& t : state_of(model)) t.value->copy_from(bank.at(t.name));
    }
  }
}

TEST_CASE("sparse: the filters of the largest scores count", "[models]") {
  const Tensor filter =
      random_normal({6, 8}, row_numbers(6), {.stream = 1}, 0, 1, Dtype::f64).reshaped({6, 2, 2, 2});
  const Tensor scores = Tensor::from(std::vector<double>{0.1, -5, 2, 0.3, -0.2, 1}, {6});
  Tape tape;
  const Tensor f = tape.watch(filter), s = tape.watch(scores);
  const Tensor y = keep_filters(f, s, 3);
  const Tensor seed =
      random_normal({6, 8}, row_numbers(6), {.stream = 2}, 0, 1, Dtype::f64).reshaped({6, 2, 2, 2});
  const auto values = doubles(y), weights = doubles(filter), d = doubles(seed);
  const Gradients gradients = tape.gradients(y, seed);
  const auto d_scores = doubles(gradients.of(s)), d_filter = doubles(gradients.of(f));
  for (size_t row = 0; row < 6; ++row) {
    const bool is_kept = row == 1 || row == 2 || row == 5;
    double product = 0;
    for (size_t i = row * 8; i < row * 8 + 8; ++i) {
      CHECK(values[i] == (is_kept ? weights[i] : 0));
      CHECK(d_filter[i] == (is_kept ? d[i] : 0));
      product += d[i] * weights[i];
    }
    CHECK(d_scores[row] == Approx(row == 1 || row == 4 ? -product : product));
  }
  CHECK_THROWS_WITH(keep_filters(filter, scores, 7), Catch::Contains("from 1 to 6"));
  CHECK_THROWS_WITH(keep_filters(filter, scores.sliced(0, 0, 5), 2), Catch::Contains("one score"));
}

TEST_CASE("networks: a hard gate takes one, a soft one weighs all", "[models]") {
  ClassifierSettings s = tiny_moe(3);
  s.experts_are = models::Experts::networks;
  s.active = 3;
  Classifier soft(s, 1);
  stir(soft);
  const Tensor x = random_images(6, s);
  const models::Prediction p = soft.forward(x, Mode::eval);
  s.active = 1;
  Classifier hard(s, 1);
  const auto from = state_of(soft);
  const auto to = state_of(hard);
  for (size_t i = 0; i < to.size(); ++i) to[i].value->copy_from(*from[i].value);
  std::vector<std::vector<double>> each;
  for (int32_t e = 0; e < 3; ++e)
    each.push_back(
        doubles(hard.forward_along(x, Tensor::from(std::vector<int32_t>(6, e), {6}), Mode::eval)));
  const auto weights = doubles(softmax(p.scores)), logits = doubles(p.logits);
  const auto hard_logits = doubles(hard.forward(x, Mode::eval).logits);
  const auto routes = p.experts.to_vector<int32_t>();
  for (size_t i = 0; i < 6; ++i)
    for (size_t c = 0; c < 5; ++c) {
      double expected = 0;
      for (size_t e = 0; e < 3; ++e) expected += weights[i * 3 + e] * each[e][i * 5 + c];
      CHECK(logits[i * 5 + c] == Approx(expected).margin(1e-5));
      CHECK(hard_logits[i * 5 + c] == each[static_cast<size_t>(routes[i])][i * 5 + c]);
    }
  CHECK_FALSE(hard.can_be_recorded());
}

// A batch norm has no statistics of one image whose maps are 1x1.
TEST_CASE("networks: an expert with a single image in training", "[models]") {
  ClassifierSettings s = tiny_moe(2);
  s.experts_are = models::Experts::networks;
  s.blocks = {1, 1, 1, 1}, s.widths = {4, 4, 4, 4};  // maps of 8, 4, 2 and 1 pixels a side
  Classifier model(s, 1);
  stir(model);
  const Tensor x = random_images(3, s), experts = Tensor::from(std::vector<int32_t>{1, 0, 1}, {3});
  const auto logits = doubles(model.forward_along(x, experts, Mode::train));
  const auto running = doubles(model.forward_along(x, experts, Mode::eval));
  for (size_t c = 0; c < 5; ++c) CHECK(logits[5 + c] == Approx(running[5 + c]));
  CHECK(logits[0] != running[0]);
}

TEST_CASE("models: what leaves a layer without channels is one line", "[models]") {
  ClassifierSettings s = models::find_model("resnet18").settings;
  s.ratio = 0.01;
  CHECK_THROWS_WITH(Classifier(s, 0),
                    Catch::Contains("model.ratio must leave a layer of 64 channels at least one, "
                                    "got 0.01: take at least 0.015625"));
}

TEST_CASE("models: a VGG says which images it takes", "[models]") {
  ClassifierSettings s = models::find_model("vgg16").settings;
  s.width = 64;
  CHECK_THROWS_WITH(Classifier(s, 0),
                    Catch::Contains("got 2x4; take square images of a side divisible by 32"));
  s = models::find_model("vgg16-imagenet").settings;
  s.ratio = 0.05;
  s.height = s.width = 256;
  CHECK_THROWS_WITH(Classifier(s, 0),
                    Catch::Contains("got 8x8; take square images of a side divisible by 224"));
}

TEST_CASE("networks: a router that is not trained is not a parameter", "[models]") {
  Classifier model(models::find_model("digits-networks-resnet").settings, 0);
  CHECK(model.router_parameters().empty());
  bool is_kept = false;
  for (const NamedTensor& t : state_of(model)) is_kept |= t.name == "router.weight";
  CHECK(is_kept);
}

TEST_CASE("dual: the average of two models", "[models]") {
  const models::Average average = GENERATE(models::Average::logits, models::Average::probabilities);
  const double alpha = GENERATE(0.0, 0.3, 1.0);
  const models::DualSettings parts{
      .standard = tiny_moe(2), .robust = tiny_moe(3), .alpha = alpha, .average = average};
  Classifier dual(models::dual_of("dual", parts), 1);
  stir(dual);
  const Tensor x = scale(random_images(6, tiny_moe(2)), 1);
  const models::Prediction p = dual.forward(x, Mode::eval),
                           s = dual.standard().forward(x, Mode::eval),
                           r = dual.robust().forward(x, Mode::eval);
  const bool of_logits = average == models::Average::logits;
  const auto a = doubles(of_logits ? s.logits : softmax(s.logits)),
             b = doubles(of_logits ? r.logits : softmax(r.logits)),
             got = doubles(of_logits ? p.logits : softmax(p.logits));
  for (size_t i = 0; i < got.size(); ++i)
    CHECK(got[i] == Approx((1 - alpha) * a[i] + alpha * b[i]).margin(1e-6));
  CHECK(dual.routes() == 6);
  const auto route = p.experts.to_vector<int32_t>(), of_s = s.experts.to_vector<int32_t>(),
             of_r = r.experts.to_vector<int32_t>();
  for (size_t i = 0; i < 6; ++i) CHECK(route[i] == of_s[i] * 3 + of_r[i]);
  Classifier plain(tiny_dense(), 0);
  CHECK_THROWS_WITH(plain.robust(), Catch::Contains("dual"));
}

}  // namespace moat::tests
