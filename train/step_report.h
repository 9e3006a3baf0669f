#pragma once

#include <functional>
#include <string>
#include <vector>

#include "engine/optim/flat.h"
#include "models/classifier.h"
#include "train/learner.h"

namespace moat::train {

// What has to be finite in a step. On a CPU a failed check throws Diverged at once. On a GPU
// nothing waits: updates are skipped where a check before them failed, and read() throws.
class FiniteChecks {
 public:
  void require_finite(const engine::Tensor& x, const std::string& failure);
  // Of a flat buffer of the group; failure(name) is told the first member that is not finite.
  void require_finite(const engine::FlatParameters& group, const engine::Tensor& flat,
                      const std::function<std::string(const std::string& name)>& failure);

  // int64 [1], above 0 when a check so far has failed; undefined on a CPU.
  engine::Tensor failures() const;
  void read() const;

 private:
  struct Check {
    engine::Tensor found;  // int64 [2]: how many values, the first one's place
    std::function<std::string(int64_t first)> failure;
  };
  void add(Check check);
  std::vector<Check> checks_;
};

// What a step leaves on the model's device.
struct StepReport {
  engine::Tensor loss;           // of the last update of the step, mean over the images
  engine::Tensor clean_correct;  // int64 [1]; undefined where the step does not know
  engine::Tensor robust_correct;
  engine::Tensor usage;  // int32 [experts]; undefined for a dense model
  int64_t images = 0;
  FiniteChecks checks;

  void count_clean(const models::Prediction& prediction, const engine::Tensor& labels);
  void count_robust(const models::Prediction& prediction, const engine::Tensor& labels);
};

// Waits for the step. Throws Diverged when something in it was not finite.
StepStatistics read(const StepReport& report);

}  // namespace moat::train
