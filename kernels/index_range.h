#pragma once

#include <cstdint>

namespace moat::kernels {

// True when all of `count` indices are in [lowest, bound).
inline bool indices_in_range(const int32_t* indices, int64_t count, int bound, int lowest = 0) {
  bool inside = true;
  for (int64_t i = 0; i < count; ++i) inside &= indices[i] >= lowest && indices[i] < bound;
  return inside;
}

}  // namespace moat::kernels
