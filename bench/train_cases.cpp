#include "bench/train_cases.h"

#include <sys/resource.h>

#include <chrono>
#include <functional>

#include "bench/masked_forward.h"
#include "data/catalog.h"
#include "data/loader.h"
#include "engine/hardware.h"
#include "engine/memory.h"
#include "engine/names.h"
#include "train/methods.h"
#include "train/recorded_step.h"
#include "train/trainer.h"

namespace moat::bench {

using namespace train;

namespace {

// What one repeat does, and on how many images.
struct Work {
  std::function<void()> run;
  int64_t images;
  std::function<int64_t()> launches;
};

int64_t peak_rss_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} * 1024;  // Linux counts kilobytes
}

// Everything a case keeps alive between its repeats.
struct Bench {
  Config config;
  data::ImageSet set;
  std::unique_ptr<Learner> learner;
  std::unique_ptr<RecordedStep> runner;
  StepSettings step() const {
    return {.train = config.train,
            .seed = config.run.seed,
            .learning_rate = 0.01,
            .router_learning_rate = 0.01};
  }
};

std::shared_ptr<Bench> prepare(const std::string& preset_name, const std::string& model,
                               data::ImageSet set, const TrainCaseOptions& options) {
  auto bench =
      std::make_shared<Bench>(Bench{preset(preset_name), std::move(set), nullptr, nullptr});
  bench->config.model.name = model;
  bench->config.train.steps = options.attack_steps;
  bench->config.run.seed = options.seed;
  bench->learner = std::make_unique<Learner>(classifier_settings(bench->config, bench->set),
                                             options.seed, options.device);
  return bench;
}

data::ImageSet random_images(int64_t n) {
  return data::synthetic({.rows = n, .height = 32, .width = 32, .channels = 3, .classes = 10});
}

// 128 random images of 32x32.
std::shared_ptr<Bench> of_images(const std::string& preset_name, const std::string& model,
                                 const TrainCaseOptions& options) {
  return prepare(preset_name, model, random_images(128), options);
}

Work digits_epoch(const TrainCaseOptions& options) {
  const auto b = prepare("digits-at", "digits-resnet", data::load({}, data::Split::train), options);
  b->runner = std::make_unique<RecordedStep>(*b->learner, at_step);
  return {[b] {
            const data::Loader loader(
                b->set,
                {.batch = b->config.train.batch, .seed = 0, .device = b->learner->model.device()});
            data::Epoch batches = loader.epoch(0);
            for (const data::Batch& batch : batches) b->runner->run(batch, b->step());
          },
          b->set.size(), [b] { return b->runner->nodes(); }};
}

Work one_step(const std::shared_ptr<Bench>& b, Step step, engine::Dtype activations) {
  b->learner->model.activations = activations;
  const data::Batch batch = data::batch_of(b->set).to(b->learner->model.device());
  b->runner = std::make_unique<RecordedStep>(*b->learner, step);
  return {[b, batch] { b->runner->run(batch, b->step()); }, b->set.size(),
          [b] { return b->runner->nodes(); }};
}

using engine::Dtype;

struct Row {
  TrainCase about;
  Work (*prepare)(const TrainCaseOptions&);
  const char* precision;
};

const std::vector<Row>& rows() {
  static const std::vector<Row> all = {
      {{"digits-at-epoch", "an epoch of PGD adversarial training of the small net on the digits"},
       digits_epoch,
       "fp32"},
      {{"resnet18-at-step", "PGD and train step of ResNet-18, 128 images of 32x32"},
       [](const TrainCaseOptions& o) {
         return one_step(of_images("cifar10-at", "resnet18", o), at_step, Dtype::f32);
       },
       "fp32"},
      {{"resnet18-at-step-bf16", "the same with bfloat16 activations"},
       [](const TrainCaseOptions& o) {
         return one_step(of_images("cifar10-at", "resnet18", o), at_step, Dtype::bf16);
       },
       "bf16"},
      {{"advmoe-iteration", "an AdvMoE iteration of MoE-ResNet-18 (N=2, r=0.5), 128 images"},
       [](const TrainCaseOptions& o) {
         return one_step(of_images("cifar10-advmoe", "moe-resnet18", o), advmoe_step, Dtype::f32);
       },
       "fp32"},
      {{"advmoe-iteration-masked", "the same, every expert computed and masked"},
       [](const TrainCaseOptions& o) {
         const auto b = of_images("cifar10-advmoe", "moe-resnet18", o);
         b->learner->forward = masked_forward(b->learner->model);
         return one_step(b, advmoe_step, Dtype::f32);
       },
       "fp32"},
  };
  return all;
}

}  // namespace

const std::vector<TrainCase>& train_cases() {
  static const std::vector<TrainCase> cases = [] {
    std::vector<TrainCase> out;
    for (const Row& row : rows()) out.push_back(row.about);
    return out;
  }();
  return cases;
}

TrainMeasurement measure_train_case(const std::string& name, const TrainCaseOptions& options) {
  const Row& row =
      engine::find_named("--case", name, rows(), [](const Row& known) { return known.about.name; });
  engine::use_precision(engine::parse_precision(row.precision), options.device);
  const Work work = row.prepare(options);
  TrainMeasurement m{
      .name = name, .seconds = {}, .images = work.images, .precision = row.precision};
  // On a GPU the first run makes the libraries' plans, the second records the step.
  for (int i = 0; i < (options.device.is_cpu() ? 1 : 2); ++i) work.run();
  engine::reset_peak_memory(options.device);
  for (int i = 0; i < options.repeats; ++i) {
    const auto start = std::chrono::steady_clock::now();
    work.run();
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
    m.seconds.push_back(spent.count());
  }
  m.peak_rss_bytes = peak_rss_bytes();
  if (!options.device.is_cpu())
    m.peak_gpu_bytes = static_cast<int64_t>(engine::memory_use(options.device).peak);
  m.launches = work.launches();
  return m;
}

}  // namespace moat::bench
