#pragma once

#include "engine/random.h"
#include "engine/tensor.h"

namespace moat::engine {

// Numbers the parameters of a model while it is built: each takes the next stream of the seed, so
// that a weight depends on the seed and its place alone.
struct InitStream {
  uint64_t seed = 0;
  uint32_t next = 0;
  RandomKey take() { return {.seed = seed, .purpose = Purpose::initialise, .stream = next++}; }
};

// Rows are the first axis (output channels).
Tensor init_normal(const Shape& shape, double deviation, InitStream& init);
Tensor init_uniform(const Shape& shape, double bound, InitStream& init);

}  // namespace moat::engine
