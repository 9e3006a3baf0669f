#pragma once

#include "attacks/protocol_run.h"
#include "engine/ops/reduce.h"
#include "tests/fuzz/tiny_mixture.h"
#include "tests/noise_set.h"
#include "train/objective.h"

namespace moat::fuzz {

// Work of a moment that has states: a mixture, two images, and three attacks of one step.
struct Scene {
  models::Classifier model{tiny_mixture(), 1};
  data::ImageSet set = tests::noise_set(model.settings(), 2, 1);

  Scene() {  // all right, so that they are attacked
    const engine::Tensor images = data::batch_of(set).images;
    set.labels =
        engine::argmax(model.forward(images, engine::Mode::eval).logits, 1).to_vector<int32_t>();
  }
  attacks::ProtocolRun run() const {
    const data::Batch all = data::batch_of(set);
    const attacks::Pgd pgd{.threat = {.eps = 0.1}, .steps = 1, .step = 0.1};
    return {train::attack_model(model),
            {all.images, all.labels, all.ids, {}},
            {"three@1", {{"a", pgd}, {"b", pgd}, {"c", pgd, attacks::Against::survivors}}},
            1};
  }
};

}  // namespace moat::fuzz
