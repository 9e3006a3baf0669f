#pragma once

#include <vector>

#include "attacks/checks/check.h"
#include "attacks/model.h"
#include "attacks/threat_model.h"
#include "attacks/victims.h"

namespace moat::attacks {

// The checks of a broken evaluation that need a model and some images (a hundred are enough), in
// the order of their ids: G1 … G20, M1 … M16. The cost is some hundred passes over the images, most
// of them with a gradient. What needs a right prediction is skipped where there is none. Throws
// without images, or for an eps of 0.
std::vector<Check> run_checks(const Model& model, const Victims& victims, const ThreatModel& threat,
                              uint64_t seed);

}  // namespace moat::attacks
