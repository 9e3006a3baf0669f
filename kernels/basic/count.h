#pragma once

#include "kernels/target.h"

namespace moat::kernels {

// How many of the pairs are equal.
struct CountEqual {
  const int32_t* a;  // [count]
  const int32_t* b;  // [count]
  int64_t count;
  int64_t* equal;  // [1]
};
Status count_equal(Cpu, const CountEqual&);
Status count_equal(Cuda, const CountEqual&);

// counts[v] = how many x are v. Values outside [0, bins) are not counted.
struct BinCount {
  const int32_t* x;  // [count]
  int64_t count;
  int bins;
  int32_t* counts;  // [bins]
};
Status bin_count(Cpu, const BinCount&);
Status bin_count(Cuda, const BinCount&);

}  // namespace moat::kernels
