#pragma once

#include <functional>

#include "kernels/target.h"

namespace moat::bench {

// What one row of a benchmark calls, and what that must do at least.
struct Row {
  std::function<kernels::Status()> run;
  double bytes, flops;  // read and written once each; of useful rows
};

}  // namespace moat::bench
