#include "train/step_estimate.h"

#include <catch2/catch.hpp>

#include "train/images.h"
#include "train/presets.h"
#include "train/trainer.h"

namespace moat::tests {

using namespace train;

namespace {
StepEstimate estimated(const std::string& preset_name, const std::string& setting = "") {
  Config config = preset(preset_name);
  if (!setting.empty()) config = override_with(config, setting);
  const data::ImageSet digits = load_images(config.data, data::Split::train, 64);
  Learner learner(classifier_settings(config, digits), 0);
  return estimate_step(learner, config);
}
}  // namespace

TEST_CASE("estimate: every method's step is measured, the batch at most", "[train][estimate]") {
  for (const char* name : {"digits-natural", "digits-at", "digits-trades", "digits-at-moe",
                           "digits-advmoe", "digits-rt-er", "digits-jtdmoe", "digits-v-moe-at"}) {
    INFO(name);
    const StepEstimate e = estimated(name, "train.batch=24");
    CHECK(e.measured_images == 24);
    CHECK(e.seconds > 0);
    CHECK(e.memory_bytes > 0);
  }
}

TEST_CASE("estimate: memory grows with the batch, from what the model takes anyway",
          "[train][estimate]") {
  const auto memory = [](const std::string& batch) {
    return estimated("digits-at", "train.batch=" + batch).memory_bytes;
  };
  const int64_t small = memory("16"), large = memory("128");
  const int64_t weights_and_momentum = 2 * 175'000 * 4;
  CHECK(small > weights_and_momentum);
  CHECK(large > 2 * small);
  CHECK(large < 8 * small);  // what does not grow is in both
}

TEST_CASE("estimate: a large net is measured on a few images", "[train][estimate]") {
  const StepEstimate e = estimated("digits-at", "model.name=resnet18");
  CHECK(e.measured_images < 128);
  CHECK(e.measured_images >= 3);
}

}  // namespace moat::tests
