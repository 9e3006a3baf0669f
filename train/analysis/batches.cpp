#include "train/analysis/batches.h"

#include <algorithm>
#include <numeric>

namespace moat::train {

using namespace engine;

void each_batch(const models::Classifier& model, const data::ImageSet& set, int batch,
                const std::function<void(const attacks::Victims&)>& look) {
  for (int64_t from = 0; from < set.size(); from += batch) {
    std::vector<int32_t> rows(static_cast<size_t>(std::min<int64_t>(batch, set.size() - from)));
    std::iota(rows.begin(), rows.end(), to_int(from));
    const data::Batch some = data::batch_of(set, rows).to(model.device());
    look({some.images, some.labels, some.ids, {}});
  }
}

attacks::Pgd pgd_of(const AnalysisSettings& on) {
  return {.threat = on.threat, .steps = on.steps, .step = on.threat.eps / 4, .seed = on.seed};
}

}  // namespace moat::train
