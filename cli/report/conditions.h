#pragma once

#include <string>
#include <utility>
#include <vector>

#include "cli/report/run.h"

namespace moat::cli::report {

// What an evaluation's numbers hold for, by name: "norm", "eps" and "images", the pixels. What its
// file lacks is unlike anything else.
using Conditions = std::vector<std::pair<std::string, std::string>>;
Conditions ball_and_images(const Evaluation& evaluation);

// The same, and "checkpoints": which one of a run it looks at, the last, the best, ….
Conditions conditions_of(const Evaluation& evaluation);

// Those of the accuracy on unchanged images: the same without the ball.
Conditions clean_conditions_of(const Evaluation& evaluation);

// The names of those that differ, "eps and images"; empty where all are equal.
std::string differing(const Conditions& a, const Conditions& b);

}  // namespace moat::cli::report
