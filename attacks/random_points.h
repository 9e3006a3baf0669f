#pragma once

#include "attacks/threat_model.h"
#include "attacks/victims.h"
#include "engine/random.h"

namespace moat::attacks {

// Random points of each victim's ball ∩ [0, 1]^d, by draws of its id.

// L∞: uniform. L2: uniform in the ball, then clipped.
engine::Tensor uniform_point(const Victims& victims, const ThreatModel& threat,
                             const engine::RandomKey& key);

// As far out as there is: L∞ a corner of ball ∩ box, L2 uniform on the sphere, then clipped.
engine::Tensor extreme_point(const Victims& victims, const ThreatModel& threat,
                             const engine::RandomKey& key);

// -1 or 1, float32 of this shape [n, …], by draws of the ids int32 [n].
engine::Tensor random_signs(const engine::Shape& shape, const engine::Tensor& ids,
                            const engine::RandomKey& key);

}  // namespace moat::attacks
