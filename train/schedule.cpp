#include "train/schedule.h"

#include <cmath>
#include <numbers>

#include "engine/error.h"

namespace moat::train {

double schedule_factor(const TrainSettings& s, int epoch, int64_t iteration) {
  const double warm = epoch < s.warmup_epochs ? double(epoch + 1) / double(s.warmup_epochs + 1) : 1;
  if (s.schedule == "constant") return warm;
  if (s.schedule == "linear") return warm * (1 - double(epoch) / s.epochs);
  if (s.schedule == "step")
    return warm * (epoch >= 0.9 * s.epochs ? 0.01 : epoch >= 0.75 * s.epochs ? 0.1 : 1);
  if (s.schedule == "cyclic") {
    const double x = double(iteration % s.cycle) / double(s.cycle);
    return warm * (s.cycle_base + (1 - s.cycle_base) * (1 - std::abs(2 * x - 1)));
  }
  engine::require(s.schedule == "cosine",
                  "train.schedule must be cosine, linear, step, constant or cyclic");
  return warm * 0.5 * (1 + std::cos(std::numbers::pi * epoch / s.epochs));
}

}  // namespace moat::train
