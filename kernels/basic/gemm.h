#pragma once

#include "kernels/target.h"

namespace moat::kernels {

enum class Transpose { no, yes };

// y = op(a) · op(b) + bias + added, row-major, summed in float32 or better and rounded once; on
// CUDA the bias of a bfloat16 y is rounded to bfloat16 before. A row of y has the same bits
// whatever m is (transpose_a = yes is for weight gradients and sums over rows: there only two equal
// calls give the same bits).
struct Gemm {
  const void* a;      // [m, k], or [k, m] when transposed
  const void* b;      // [k, n], or [n, k] when transposed
  const void* bias;   // [n] in y_dtype's compute type (float32 for bfloat16) or nullptr
  const void* added;  // [m, n] in y_dtype, or nullptr
  void* y;            // [m, n], apart from the others
  int m, n, k;        // k = 0 gives what is added, or zeros
  Transpose transpose_a, transpose_b;
  Dtype dtype;    // of a and b
  Dtype y_dtype;  // dtype, or f32 for bfloat16 operands
};
size_t gemm_workspace(Cpu, const Gemm&);
size_t gemm_workspace(Cuda, const Gemm&);
Status gemm(Cpu, const Gemm&);
Status gemm(Cuda, const Gemm&);

}  // namespace moat::kernels
