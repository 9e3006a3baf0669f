#pragma once

#include <string>

#include "cli/report/run.h"

namespace moat::cli::report {

// Clean, adversarial and difference pictures of an evaluation as HTML: the first images of the
// split, then the first that were fooled. The difference is drawn around mid-gray, scaled so that
// the radius reaches black and white, and says so. Takes adversarial.safetensors, else
// gallery.png, else says that there is neither.
std::string gallery(const Evaluation& evaluation);

}  // namespace moat::cli::report
