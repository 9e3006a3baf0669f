#pragma once

#include <functional>
#include <vector>

#include "attacks/checks/check.h"
#include "attacks/model.h"
#include "attacks/threat_model.h"
#include "attacks/victims.h"

namespace moat::attacks {

// Where checks are, in forward and backward passes of images.
struct ChecksStanding {
  const char* family = "";
  int64_t passes_done = 0, passes_left = 0;  // left: an estimate, of a model that is not fooled
};
using ChecksProgress = std::function<void(const ChecksStanding&)>;

// The checks of a broken evaluation that need a model and some images (a hundred are enough), in
// the order of their ids: G1 … G20, M1 … M16. The cost is some hundred passes over the images, most
// of them with a gradient. What needs a right prediction is skipped where there is none. Throws
// without images, or for an eps of 0. `progress` is told whenever the model is asked, and may throw
// to end it.
std::vector<Check> run_checks(const Model& model, const Victims& victims, const ThreatModel& threat,
                              uint64_t seed, const ChecksProgress& progress = {});

}  // namespace moat::attacks
