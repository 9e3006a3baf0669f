#include "train/weight_average.h"

#include <algorithm>

#include "engine/ops/elementwise.h"

namespace moat::train {

using namespace engine;

WeightAverage::WeightAverage(models::Classifier& model, const std::vector<FlatParameters*>& groups,
                             double decay)
    : decay_(decay) {
  for (size_t g = 0; g < groups.size(); ++g)
    parts_.push_back({text("group.", g), groups[g]->values(), groups[g]->values().clone()});
  for (const NamedTensor& t : state_of(model))
    if (t.role == Role::buffer) parts_.push_back({t.name, *t.value, t.value->clone()});
}

void WeightAverage::update(int64_t step) {
  const auto t = static_cast<double>(step);
  const double d = std::min(decay_, (1 + t) / (10 + t));
  for (const Part& part : parts_)
    part.average.copy_from(add(part.average, scale(sub(part.of, part.average), 1 - d)));
}

void WeightAverage::exchange() {
  for (const Part& part : parts_) {
    const Tensor own = part.of.clone();
    part.of.copy_from(part.average);
    part.average.copy_from(own);
  }
}

}  // namespace moat::train
