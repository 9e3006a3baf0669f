#include "train/step_estimate.h"

#include <algorithm>
#include <chrono>

#include "data/synthetic.h"
#include "engine/memory.h"
#include "train/recorded_step.h"

namespace moat::train {

using namespace engine;

namespace {

// A CPU takes its time in proportion to the images: as many as two cores compute in some seconds. A
// GPU gets the batch.
int64_t images_to_measure(const Config& config, const Learner& learner) {
  constexpr double kMacs = 1e11;
  if (!learner.model.device().is_cpu()) return config.train.batch;
  const double passes = config.train.method == "natural" ? 3 : 2.0 * config.train.steps + 3,
               of_image = passes * static_cast<double>(learner.model.cost().executed());
  return std::min<int64_t>(config.train.batch,
                           std::max<int64_t>(3, static_cast<int64_t>(kMacs / of_image)));
}

}  // namespace

StepEstimate estimate_step(Learner& learner, const Config& config) {
  learner.prepare(config);
  const models::ClassifierSettings& shape = learner.model.settings();
  const Device device = learner.model.device();
  const StepSettings settings{.train = config.train,
                              .seed = config.run.seed,
                              .learning_rate = config.train.learning_rate,
                              .router_learning_rate = config.train.learning_rate};
  RecordedStep step(learner, find_method(config.train.method));
  const auto batch_of = [&](int64_t images) {
    return data::batch_of(data::synthetic({.rows = images,
                                           .height = shape.height,
                                           .width = shape.width,
                                           .channels = shape.channels,
                                           .classes = shape.classes}))
        .to(device);
  };
  // The most bytes in tensors.
  const auto peak_of = [&](const data::Batch& batch) {
    reset_peak_memory(device);
    step.run(batch, settings);
    return static_cast<double>(memory_use(device).peak);
  };
  // What images add to the memory needs a second, smaller batch: the rest is what any step takes.
  const int64_t n = images_to_measure(config, learner), batch = config.train.batch,
                fewer = n < batch ? (n + 1) / 2 : n;
  const double least = fewer < n ? peak_of(batch_of(fewer)) : 0;
  const data::Batch images = batch_of(n);
  // The first makes the libraries' plans; on a GPU the second records the step.
  double peak = 0;
  for (int i = 0; i < (device.is_cpu() ? 1 : 2); ++i) peak = std::max(peak, peak_of(images));
  const double of_image =
      fewer < n ? std::max(0.0, peak - least) / static_cast<double>(n - fewer) : 0;
  const auto start = std::chrono::steady_clock::now();
  step.run(images, settings);
  const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
  return {.measured_images = n,
          .seconds = spent.count() * static_cast<double>(batch) / static_cast<double>(n),
          .memory_bytes = static_cast<int64_t>(peak + of_image * static_cast<double>(batch - n))};
}

}  // namespace moat::train
