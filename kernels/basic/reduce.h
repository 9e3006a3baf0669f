#pragma once

#include <cstdint>

#include "kernels/basic/sum_dtype.h"

namespace moat::kernels {

// y[o, i] = sum over a of x[o, a, i], in float64 for every dtype: the sum is bound by memory, and
// float64 keeps it exact to the last bit of a float32 for any realistic length. The order is fixed
// by axis, inner and the format: blocks of the axis, then the sums of the blocks, so the bits
// depend neither on the number of threads nor on outer. CPU and CUDA have an order each.
struct SumAxis {
  const void* x;  // [outer, axis, inner]
  void* y;        // [outer, inner]
  int64_t outer, axis, inner;
  Dtype dtype;    // of x
  Dtype y_dtype;  // dtype, or f32 for a bfloat16 x
};
size_t sum_workspace(Cpu, const SumAxis&);
size_t sum_workspace(Cuda, const SumAxis&);
Status sum(Cpu, const SumAxis&);
Status sum(Cuda, const SumAxis&);

// For both: f.operator()<T, Y>() with the formats of x and y.
template <class F>
Status with_formats(const SumAxis& a, F&& f) {
  if (!is_sum_dtype(a.dtype, a.y_dtype)) return Status::bad_args;
  if (a.y_dtype != a.dtype) return f.template operator()<Bf16, float>();
  return with_float(a.dtype, [&]<class T>() { return f.template operator()<T, T>(); });
}

// y[o, i] = max over a of x[o, a, i] and where it is: the lowest index at a tie; a NaN wins, the
// first one if there are more.
struct MaxAxis {
  const void* x;   // [outer, axis, inner], axis > 0
  void* y;         // [outer, inner] or nullptr
  int32_t* index;  // [outer, inner]
  int64_t outer, axis, inner;
  Dtype dtype;
};
Status max_axis(Cpu, const MaxAxis&);
Status max_axis(Cuda, const MaxAxis&);

// d_x[o, a, i] = d_y[o, i] where a is index[o, i], else 0. On CUDA an index outside [0, axis) is
// nobody's; the CPU trusts it.
struct MaxAxisGrad {
  const void* d_y;       // [outer, inner]
  const int32_t* index;  // [outer, inner]
  void* d_x;             // [outer, axis, inner]
  int64_t outer, axis, inner;
  Dtype dtype;
};
Status max_axis_grad(Cpu, const MaxAxisGrad&);
Status max_axis_grad(Cuda, const MaxAxisGrad&);

}  // namespace moat::kernels
