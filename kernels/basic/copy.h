#pragma once

#include <array>
#include <cstdint>

#include "kernels/target.h"

namespace moat::kernels {

// to[i, …] = from[i, …] for every index, converting the number format. Strides are in elements; a
// source stride of 0 broadcasts. Conversion to bfloat16 rounds to nearest even; u8 to a floating
// format is exact; a floating value to an integer truncates.
struct Copy {
  const void* from;
  void* to;
  std::array<int64_t, 6> extents;  // unused axes: 1
  std::array<int64_t, 6> from_strides, to_strides;
  Dtype from_dtype, to_dtype;
};
Status copy(Cpu, const Copy&);
Status copy(Cuda, const Copy&);

// to[i] = value for i < count.
struct Fill {
  void* to;
  int64_t count;
  double value;
  Dtype dtype;
};
Status fill(Cpu, const Fill&);
Status fill(Cuda, const Fill&);

}  // namespace moat::kernels
