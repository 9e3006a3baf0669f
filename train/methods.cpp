#include "train/methods.h"

namespace moat::train {

using namespace engine;

Step find_method(const std::string& name) {
  if (name == "natural") return natural_step;
  if (name == "at") return at_step;
  if (name == "trades") return trades_step;
  if (name == "advmoe") return advmoe_step;
  throw UsageError(
      text("train.method must be one of natural, at, trades, advmoe; got '", name, "'"));
}

}  // namespace moat::train
