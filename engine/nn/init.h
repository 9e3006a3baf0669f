#pragma once

#include <limits>

#include "engine/random.h"
#include "engine/tensor.h"

namespace moat::engine {

// Numbers the parameters of a model while it is built: each takes the next stream of the seed, so
// that a weight depends on the seed and its place alone.
struct InitStream {
  enum class Fill { random, none };
  uint64_t seed = 0;
  uint32_t next = 0;
  Fill fill = Fill::random;  // none: nothing is written, for a model to be counted or filled
  // Elements that may still be drawn: a model rebuilt from a file takes no more than the file has.
  int64_t budget = std::numeric_limits<int64_t>::max();
  RandomKey take() { return {.seed = seed, .purpose = Purpose::initialise, .stream = next++}; }
};

// Rows are the first axis (output channels). Throw when the stream's budget is spent.
Tensor init_normal(const Shape& shape, double deviation, InitStream& init);
Tensor init_uniform(const Shape& shape, double bound, InitStream& init);

}  // namespace moat::engine
