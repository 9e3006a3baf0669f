#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "engine/graph.h"
#include "train/methods.h"

namespace moat::train {

// Runs the steps of a method. On a GPU a step that comes a second time with the same numbers
// (epoch, learning rates, batch size, the attack's gate) is recorded as a graph, all its attack
// steps and updates in one, and launched from then on. A rate's factor
// (FlatParameters::set_lr_factor) lies on the device and may change from step to step.
class RecordedStep {
 public:
  RecordedStep(Learner& learner, Step step) : learner_(learner), step_(step) {}

  // Waits for the step; throws Diverged as read() does.
  StepStatistics run(const data::Batch& batch, const StepSettings& settings);

  // Gives back the memory of what is recorded. At the end of an epoch: the next one's random keys
  // make graphs of its own.
  void forget();

  int64_t nodes() const;  // kernels and copies of the graph used last; 0: none is recorded

 private:
  struct Key {
    int64_t size;
    int epoch;
    double learning_rate, router_learning_rate;
    bool odd;    // of an attack whose gate alternates
    bool mixed;  // images, with two labels each
    bool operator==(const Key&) const = default;
  };
  struct Recording {
    Key key;
    data::Batch inputs;  // read by the graph
    StepReport report;   // written by it
    std::unique_ptr<engine::Graph> graph;
  };

  static Key key_of(const data::Batch& batch, const StepSettings& settings);
  Recording& record(const Key& key, const data::Batch& batch, const StepSettings& settings);
  void mark_model_written();

  Learner& learner_;
  Step step_;
  std::vector<Key> seen_;                     // run once, not recorded yet
  std::shared_ptr<engine::MemoryPool> pool_;  // of all recordings: they never run at the same time
  std::vector<std::unique_ptr<Recording>> recordings_;  // of one epoch
  int64_t nodes_ = 0;
};

}  // namespace moat::train
