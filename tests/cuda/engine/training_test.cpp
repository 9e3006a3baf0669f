#include <catch2/catch.hpp>
#include <cmath>
#include <numeric>

#include "attacks/pgd.h"
#include "data/augment.h"
#include "engine/cuda/runtime.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/loss.h"
#include "engine/ops/reduce.h"
#include "engine/ops/shape.h"
#include "engine/tape.h"
#include "tests/models_fixture.h"
#include "train/evaluate.h"
#include "train/objective.h"
#include "train/recorded_step.h"

namespace moat::tests {

using namespace engine;
using namespace train;

namespace {

const Device kGpu{Device::cuda, 0};

data::Batch batch_for(const models::ClassifierSettings& s, int64_t n, uint32_t stream = 0) {
  return {random_images(n, s, stream), random_labels(n, s.classes, stream), row_numbers(n)};
}

// The largest difference of a tensor from another one, relative to its largest value.
double apart(const Tensor& a, const Tensor& b) {
  const auto x = a.to(Device{}).to(Dtype::f64).to_vector<double>(),
             y = b.to(Device{}).to(Dtype::f64).to_vector<double>();
  REQUIRE(x.size() == y.size());
  double most = 0, largest = 1e-6;
  for (size_t i = 0; i < x.size(); ++i) {
    most = std::max(most, std::abs(x[i] - y[i]));
    largest = std::max(largest, std::abs(x[i]));
  }
  return most / largest;
}

double apart(models::Classifier& a, models::Classifier& b) {
  const auto x = state_of(a), y = state_of(b);
  double most = 0;
  for (size_t i = 0; i < x.size(); ++i) most = std::max(most, apart(*x[i].value, *y[i].value));
  return most;
}

struct Probe {
  Tensor logits, experts, gradient;
};
Probe probe(const models::Classifier& model, const data::Batch& batch, Mode mode,
            models::GateGradient gate) {
  Tape tape;
  const Tensor x = tape.watch(batch.images);
  const models::Prediction p = model.forward(x, mode, gate);
  return {p.logits, p.experts, tape.gradients(sum(cross_entropy(p.logits, batch.labels))).of(x)};
}

// A pair of learners with the same weights, on the CPU and on the GPU.
struct Pair {
  Learner cpu, gpu;
  explicit Pair(const models::ClassifierSettings& s) : cpu(s, 2), gpu(s, 2, kGpu) {
    stir(cpu.model);
    const auto from = state_of(cpu.model), to = state_of(gpu.model);
    for (size_t i = 0; i < from.size(); ++i) to[i].value->copy_from(*from[i].value);
  }
};

StepSettings step_of(const TrainSettings& t, int64_t iteration = 0) {
  return {.train = t,
          .seed = 1,
          .iteration = iteration,
          .learning_rate = 0.05,
          .router_learning_rate = 0.05};
}

TrainSettings short_attack() {
  TrainSettings t;
  t.steps = 2;
  t.eps = 0.05;
  return t;
}

}  // namespace

TEST_CASE("gpu: a model's logits, routes and pixel gradients are the CPU's", "[gpu][models]") {
  for (const auto& s : {tiny_dense(), tiny_moe(3)}) {
    const Pair pair(s);
    const data::Batch batch = batch_for(s, 6);
    for (const Mode mode : {Mode::eval, Mode::train})
      for (const auto gate : {models::GateGradient::open, models::GateGradient::blocked}) {
        const Probe cpu = probe(pair.cpu.model, batch, mode, gate),
                    gpu = probe(pair.gpu.model, batch.to(kGpu), mode, gate);
        CHECK(apart(cpu.logits, gpu.logits) < 1e-5);
        CHECK(apart(cpu.gradient, gpu.gradient) < 1e-4);
        if (cpu.experts.defined())
          CHECK(gpu.experts.to_vector<int32_t>() == cpu.experts.to_vector<int32_t>());
      }
  }
}

TEST_CASE("gpu: an image's result does not depend on its batch", "[gpu][models]") {
  const Pair pair(tiny_moe(2));
  const models::Classifier& model = pair.gpu.model;
  const Tensor images = random_images(9, model.settings()).to(kGpu);
  const Tensor together = model.forward(images, Mode::eval).logits;
  for (const auto& [from, to] : {std::pair{0, 1}, {1, 5}, {5, 9}})
    CHECK(model.forward(images.sliced(0, from, to), Mode::eval).logits.to_vector<float>() ==
          together.sliced(0, from, to).to_vector<float>());
}

TEST_CASE("gpu: five steps of natural training stay with the CPU's", "[gpu][train]") {
  for (const auto& s : {tiny_dense(), tiny_moe(2)}) {
    Pair pair(s);
    const TrainSettings settings = short_attack();
    for (int64_t i = 0; i < 5; ++i) {
      const data::Batch batch = batch_for(s, 8, static_cast<uint32_t>(i));
      const StepStatistics cpu = read(natural_step(pair.cpu, batch, step_of(settings, i))),
                           gpu = read(natural_step(pair.gpu, batch.to(kGpu), step_of(settings, i)));
      CHECK(gpu.loss == Approx(cpu.loss).epsilon(1e-4));
      CHECK(gpu.clean_correct == cpu.clean_correct);
      CHECK(gpu.usage == cpu.usage);
    }
    CHECK(apart(pair.cpu.model, pair.gpu.model) < 1e-4);
  }
}

// The attack's signs amplify a last bit, so that both targets update on the CPU's examples.
TEST_CASE("gpu: an adversarial step is the CPU's on the same examples", "[gpu][train]") {
  const models::ClassifierSettings s = tiny_moe(2);
  Pair pair(s);
  const TrainSettings settings = short_attack();
  const data::Batch batch = batch_for(s, 8);
  const Tensor examples =
      training_attack(pair.cpu, batch, attacks::Loss::kl_divergence, step_of(settings));
  const Tensor own =
      training_attack(pair.gpu, batch.to(kGpu), attacks::Loss::kl_divergence, step_of(settings));
  const auto want = examples.to_vector<float>(), got = own.to_vector<float>();
  size_t differ = 0;
  for (size_t i = 0; i < want.size(); ++i) differ += std::abs(want[i] - got[i]) > 1e-5f;
  CHECK(differ <= want.size() / 50);
  const auto update = [&](Learner& learner, const data::Batch& b, const Tensor& adversarial) {
    Tape tape;
    for (FlatParameters* group : learner.groups()) group->watch(tape);
    const Terms terms = trades_terms(learner, b, adversarial, step_of(settings));
    FiniteChecks checks;
    descend(tape, add(terms.loss, balance_loss(terms.clean)), learner.groups(), {0.05, 0.05},
            settings, checks);
    checks.read();
  };
  update(pair.cpu, batch, examples);
  update(pair.gpu, batch.to(kGpu), examples.to(kGpu));
  CHECK(apart(pair.cpu.model, pair.gpu.model) < 1e-4);
}

TEST_CASE("gpu: recorded steps leave the bits of steps launched one by one", "[gpu][graph]") {
  const models::ClassifierSettings s = tiny_moe(2);
  struct Row {
    Step method;
    const char* gate;
    bool mixed = false;
    const char* optimizer = "sgd";
    double awp = 0;
  };
  for (const Row& row :
       {Row{natural_step, "blocked"}, Row{at_step, "alternate"}, Row{at_step, "through", true},
        Row{trades_step, "through"}, Row{mart_step, "blocked", false, "adamw", 0.01},
        Row{advmoe_step, "blocked", true, "adamw"}}) {
    Pair one_by_one(s), recorded(s);
    TrainSettings settings = short_attack();
    settings.gate = row.gate;
    settings.optimizer = row.optimizer;
    settings.awp = row.awp;
    settings.clip_norm = 1;
    settings.steps = 1;
    RecordedStep runner(recorded.gpu, row.method);
    for (int64_t i = 0; i < 5; ++i) {
      const int64_t size = i == 3 ? 3 : 4;  // a smaller batch in between
      data::Batch batch = batch_for(s, size, static_cast<uint32_t>(i));
      if (row.mixed)
        batch = data::mixed(batch, {.mixup = 1, .cutmix = 1}, 1, static_cast<uint32_t>(i));
      batch = batch.to(kGpu);
      for (Learner* learner : {&one_by_one.gpu, &recorded.gpu})  // a rate that no graph may keep
        for (FlatParameters* group : learner->groups())
          group->set_lr_factor(1 / (1 + static_cast<double>(i)));
      const StepStatistics want = read(row.method(one_by_one.gpu, batch, step_of(settings, i))),
                           got = runner.run(batch, step_of(settings, i));
      CHECK(got.loss == want.loss);
      CHECK(got.robust_correct == want.robust_correct);
      CHECK(got.clean_correct == want.clean_correct);
      CHECK(got.usage == want.usage);
    }
    CHECK(runner.nodes() > 50);
    CHECK(fingerprint(recorded.gpu.model) == fingerprint(one_by_one.gpu.model));
    // What is derived from the weights (folded norms) follows them out of the graph.
    const Tensor x = random_images(4, s).to(kGpu);
    CHECK(recorded.gpu.model.forward(x, Mode::eval).logits.to_vector<float>() ==
          one_by_one.gpu.model.forward(x, Mode::eval).logits.to_vector<float>());
  }
}

TEST_CASE("gpu: an epoch is recorded in the memory of the one before, its last batch runs there",
          "[gpu][graph]") {
  const models::ClassifierSettings s = tiny_dense();
  Learner learner(s, 2, kGpu);
  RecordedStep runner(learner, at_step);
  const data::Batch whole = batch_for(s, 64).to(kGpu), last = batch_for(s, 60).to(kGpu);
  const TrainSettings settings = short_attack();
  const auto used = [] {
    const MemoryUse use = memory_use(kGpu);
    return use.live + use.cached;
  };
  size_t most[3] = {}, first = 0;
  for (int epoch = 0; epoch < 3; ++epoch)
    for (int64_t i = 0; i < 4; ++i) {
      StepSettings step = step_of(settings, 4 * epoch + i);
      step.epoch = epoch;
      runner.run(i < 3 ? whole : last, step);
      const size_t now = used();
      if (epoch == 0 && i == 0) first = now;
      if (i == 2) most[epoch] = now;
      if (i == 3) CHECK(now <= most[epoch] + most[epoch] / 10);
    }
  CHECK(most[1] <= most[0] + most[0] / 10);
  CHECK(most[2] <= most[0] + most[0] / 10);
  runner.forget();
  CHECK(used() <= first + first / 10);
}

TEST_CASE("gpu: what is not finite stops a step and leaves the model alone", "[gpu][train]") {
  const models::ClassifierSettings s = tiny_moe(2);
  for (Step method : {natural_step, at_step, trades_step, mart_step, advmoe_step}) {
    Pair pair(s);
    for (const NamedTensor& t : parameters_of(pair.gpu.model))
      if (t.name == "fc.bias") t.value->fill(std::nan(""));
    std::vector<std::vector<float>> before;
    for (const NamedTensor& t : parameters_of(pair.gpu.model))
      before.push_back(t.value->to_vector<float>());
    const TrainSettings settings = short_attack();
    CHECK_THROWS_WITH(read(method(pair.gpu, batch_for(s, 8).to(kGpu), step_of(settings))),
                      "the loss is not finite");
    size_t at = 0;
    for (const NamedTensor& t : parameters_of(pair.gpu.model)) {
      if (t.name != "fc.bias") CHECK(t.value->to_vector<float>() == before[at]);
      ++at;
    }
  }
}

TEST_CASE("gpu: an evaluation counts like the CPU's and does not depend on its batches",
          "[gpu][attacks]") {
  const models::ClassifierSettings s = tiny_moe(2);
  Pair pair(s);
  data::ImageSet set;
  set.height = s.height;
  set.width = s.width;
  set.channels = s.channels;
  set.name = "random";
  for (int c = 0; c < s.classes; ++c) set.class_names.push_back(std::to_string(c));
  for (int32_t i = 0; i < 12; ++i) {
    set.labels.push_back(i % s.classes);
    set.ids.push_back(i);
  }
  std::vector<uint8_t> pixels(12 * static_cast<size_t>(set.image_bytes()));
  for (size_t i = 0; i < pixels.size(); ++i)
    pixels[i] = static_cast<uint8_t>(random_bits({.seed = 4}, uint32_t(i)) >> 24);
  set.pixels = std::move(pixels);
  const auto run = [&](models::Classifier& model, int batch) {
    attacks::Protocol protocol =
        attacks::find_protocol("pgd-10@1", {Norm::linf, 0.02}, 1, attack_model(model));
    for (attacks::NamedAttack& attack : protocol.attacks)
      std::get<attacks::Pgd>(attack.attack).steps = 3;
    return evaluate(model, set, protocol, {.batch = batch});
  };
  const Evaluation one = run(pair.gpu.model, 12), other = run(pair.gpu.model, 5);
  for (size_t i = 0; i < one.samples.size(); ++i) {
    CHECK(one.samples[i].fooled_by == other.samples[i].fooled_by);
    CHECK(one.samples[i].iteration == other.samples[i].iteration);
    CHECK(one.samples[i].margin == other.samples[i].margin);
  }
  CHECK(one.adversarial.to_vector<float>() == other.adversarial.to_vector<float>());
  const Evaluation cpu = run(pair.cpu.model, 12);
  CHECK(one.clean_correct(set) == cpu.clean_correct(set));
  CHECK(std::abs(one.robust_correct(set) - cpu.robust_correct(set)) <= 1);
}

TEST_CASE("gpu: attacks meet the model with few numbers of images", "[gpu][attacks]") {
  const auto rounded = [](std::vector<int32_t> rows, int64_t all) {
    return attacks::rounded_up(rows, all, kGpu);
  };
  const auto first = [](int32_t count) {
    std::vector<int32_t> rows(static_cast<size_t>(count));
    std::iota(rows.begin(), rows.end(), 0);
    return rows;
  };
  CHECK(rounded({}, 90).empty());
  std::vector<int32_t> with_last = first(31);
  with_last.push_back(80);
  CHECK(rounded({4, 80}, 90) == with_last);
  CHECK(rounded(first(33), 90) == first(64));
  CHECK(rounded(first(65), 90) == first(90));  // no others left
  CHECK(attacks::rounded_up({1, 2, 5, 7, 8}, 90, {}).size() == 5);

  // A model that one image after another fools, the last one first, as soon as its pixel is below
  // 1/4.
  std::vector<int64_t> sizes;
  const attacks::Model model{
      .forward =
          [&](const Tensor& images, attacks::Gate) {
            sizes.push_back(images.dim(0));
            const Tensor pixel = reshape(images, {images.dim(0), 1});
            return attacks::Outputs{concat({affine(pixel, -1, 0.25), affine(pixel, 1, -0.25)}, 1),
                                    {}};
          },
      .routed = false};
  constexpr int kImages = 60;
  std::vector<float> pixels;
  std::vector<int32_t> ids;
  for (int i = 0; i < kImages; ++i) {
    pixels.push_back(0.905f - 0.01f * static_cast<float>(i));
    ids.push_back(i);
  }
  const attacks::Victims victims{Tensor::from(pixels, {kImages, 1, 1, 1}, kGpu),
                                 Tensor::from(std::vector<int32_t>(kImages, 1), {kImages}, kGpu),
                                 Tensor::from(ids, {kImages}, kGpu),
                                 {}};
  const attacks::AttackResult found = attacks::pgd(
      model, victims,
      {.threat = {Norm::linf, 0.7}, .steps = 70, .step = 0.01, .start = attacks::Start::center});
  for (size_t i = 1; i < found.fooled_at.size(); ++i)
    CHECK(found.fooled_at[i] == found.fooled_at[i - 1] - 1);
  CHECK(sizes.back() == 32);
  for (const int64_t size : sizes) CHECK((size == kImages || size == 32));
}

}  // namespace moat::tests
