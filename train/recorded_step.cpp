#include "train/recorded_step.h"

#include <algorithm>

#include "engine/memory.h"

namespace moat::train {

using namespace engine;

RecordedStep::Key RecordedStep::key_of(const data::Batch& batch, const StepSettings& s) {
  return {.size = batch.size(),
          .epoch = s.epoch,
          .learning_rate = s.learning_rate,
          .router_learning_rate = s.router_learning_rate,
          .odd = s.train.gate == "alternate" && s.iteration % 2 != 0,
          .mixed = batch.is_mixed()};
}

StepStatistics RecordedStep::run(const data::Batch& batch, const StepSettings& settings) {
  if (!can_record_graphs(batch.images.device()) || !learner_.model.can_be_recorded())
    return read(step_(learner_, batch, settings));
  const Key key = key_of(batch, settings);
  // An epoch's last, shorter batch as well: beside the graphs' memory it needs nearly as much
  // again.
  if (!recordings_.empty() &&
      (recordings_[0]->key.epoch != key.epoch || recordings_[0]->key.size != key.size))
    forget();
  auto found = std::find_if(recordings_.begin(), recordings_.end(),
                            [&](const auto& recording) { return recording->key == key; });
  if (found == recordings_.end() && std::find(seen_.begin(), seen_.end(), key) == seen_.end()) {
    std::erase_if(seen_, [&](const Key& seen) { return seen.epoch != key.epoch; });
    seen_.push_back(key);
    return read(step_(learner_, batch, settings));  // also what makes the libraries' plans
  }
  Recording& recording = found == recordings_.end() ? record(key, batch, settings) : **found;
  recording.inputs.images.copy_from(batch.images);
  recording.inputs.labels.copy_from(batch.labels);
  recording.inputs.ids.copy_from(batch.ids);
  if (key.mixed) {
    recording.inputs.other_labels.copy_from(batch.other_labels);
    recording.inputs.weight.copy_from(batch.weight);
  }
  recording.graph->launch();
  nodes_ = recording.graph->nodes();
  mark_model_written();
  return read(recording.report);
}

RecordedStep::Recording& RecordedStep::record(const Key& key, const data::Batch& batch,
                                              const StepSettings& settings) {
  const Device gpu = batch.images.device();
  if (!pool_) pool_ = make_memory_pool(gpu);
  auto recording = std::make_unique<Recording>(
      Recording{.key = key, .inputs = batch.clone(), .report = {}, .graph = {}});
  mark_model_written();  // what is derived from the model is derived again inside
  recording->graph = std::make_unique<Graph>(
      gpu, pool_, [&] { recording->report = step_(learner_, recording->inputs, settings); });
  mark_model_written();  // nothing has run yet
  recordings_.push_back(std::move(recording));
  return *recordings_.back();
}

// What the model keeps of a recording (packed weights) may hold blocks of the pool for longer.
void RecordedStep::forget() {
  recordings_.clear();
  if (pool_) release_cached_memory(*pool_);
}

void RecordedStep::mark_model_written() {
  for (const NamedTensor& t : state_of(learner_.model)) t.value->mark_written();
}

int64_t RecordedStep::nodes() const { return nodes_; }

}  // namespace moat::train
