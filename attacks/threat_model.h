#pragma once

#include <string_view>

#include "engine/ops/ball.h"

namespace moat::attacks {

// What the attacker may do: move a picture by at most eps in one norm, staying in [0, 1].
struct ThreatModel {
  engine::Norm norm = engine::Norm::linf;
  double eps = 8.0 / 255;  // pixels in [0, 1]
};

const char* name_of(engine::Norm norm);  // "linf", "l2"

// The norm called `name`; a UsageError names `what` where there is none.
engine::Norm norm_named(std::string_view name, std::string_view what);

}  // namespace moat::attacks
