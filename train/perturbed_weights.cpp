#include "train/perturbed_weights.h"

#include <utility>

#include "engine/tape.h"

namespace moat::train {

using namespace engine;

namespace {

void collect_slope(const std::vector<FlatParameters*>& groups,
                   const std::function<Tensor()>& loss) {
  Tape tape;
  for (FlatParameters* group : groups) group->watch(tape);
  const Gradients gradients = tape.gradients(loss());
  for (FlatParameters* group : groups) group->collect(gradients);
}

}  // namespace

PerturbedWeights::PerturbedWeights(Learner& learner, std::vector<FlatParameters*> groups,
                                   double gamma, const std::function<Tensor()>& loss)
    : groups_(std::move(groups)) {
  std::vector<std::pair<const Tensor*, Tensor>> statistics;
  for (const NamedTensor& t : state_of(learner.model))
    if (t.role == Role::buffer) statistics.emplace_back(t.value, t.value->clone());
  collect_slope(groups_, loss);
  for (const auto& [now, before] : statistics) now->copy_from(before);
  for (FlatParameters* group : groups_) {
    before_.push_back(group->values().clone());
    group->climb(gamma);
  }
}

PerturbedWeights::~PerturbedWeights() {
  try {
    restore();
  } catch (const Error&) {  // of a lost device, which whoever uses it next is told
  }
}

void PerturbedWeights::restore() {
  const Tensors before = std::exchange(before_, {});
  for (size_t g = 0; g < before.size(); ++g) groups_[g]->values().copy_from(before[g]);
}

}  // namespace moat::train
