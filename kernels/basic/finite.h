#pragma once

#include "kernels/target.h"

namespace moat::kernels {

// Finds NaN and infinities at memory speed.
struct Finite {
  const void* x;  // [count]
  int64_t count;
  int64_t* found;  // [2]: how many values are not finite, index of the first (`count` if none)
  Dtype dtype;
};
Status finite(Cpu, const Finite&);
Status finite(Cuda, const Finite&);

}  // namespace moat::kernels
