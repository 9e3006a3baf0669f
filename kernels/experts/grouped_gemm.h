#pragma once

#include "kernels/basic/gemm.h"
#include "kernels/experts/expert_activation.h"

namespace moat::kernels {

// One product per expert over ragged groups of rows: for rows r of expert e, that is
// offsets[e] <= r < offsets[e + 1],
//   pre[r, :] = x[row_token ? row_token[r] : r, :] · op(w[e]) + bias[e, :],
//   y[r, :]   = activation(pre[r, :]).
// Rows from offsets[experts] on are zeros, in pre as well. The activation takes sums before they
// are rounded to bfloat16. A row has the same bits whatever the others are. Offsets that do not
// ascend from 0 to at most `rows`, a token outside [0, x_rows) in a row of an expert, or an odd n
// with swiglu are bad_args; what lies in device memory is not checked: there such a token stands
// for a row of zeros.
struct GroupedGemm {
  const void* x;             // [x_rows, k]
  const int32_t* row_token;  // [rows]: gathers while loading; nullptr: row r of x
  const void* w;             // [experts, k, n], or [experts, n, k] when transposed
  const void* bias;          // [experts, n], float32 for bfloat16, or nullptr
  const int32_t* offsets;    // [experts + 1]
  void* y;                   // [rows, activated_width(activation, n)]
  int rows, x_rows, experts, n, k;
  Transpose transpose_w;
  Dtype dtype;
  ExpertActivation activation = ExpertActivation::none;
  void* pre = nullptr;  // [rows, n]: what a backward pass needs, or nullptr
  Precision precision = Precision::float32;
};
// A workspace depends on extents, dtype and activation alone.
size_t grouped_gemm_workspace(Cpu, const GroupedGemm&);
size_t grouped_gemm_workspace(Cuda, const GroupedGemm&);
Status grouped_gemm(Cpu, const GroupedGemm&);
Status grouped_gemm(Cuda, const GroupedGemm&);

// The gradients of the filters and biases of y = x · w^T + bias, w [experts, n, k]:
//   d_w[e] = sum over rows r of e of d_y[r, :]^T x[token(r), :],  d_bias[e] = sum of d_y[r, :]
// in float32 (float64 for float64); zeros for an expert without rows. The same bits in two runs.
struct GroupedGemmWeightGrad {
  const void* x;             // [x_rows, k]
  const int32_t* row_token;  // [rows] or nullptr
  const void* d_y;           // [rows, n]
  const int32_t* offsets;    // [experts + 1]
  void* d_w;                 // [experts, n, k]
  void* d_bias;              // [experts, n] or nullptr
  int rows, x_rows, experts, n, k;
  Dtype dtype;  // of x and d_y
  Precision precision = Precision::float32;
};
size_t grouped_gemm_weight_grad_workspace(Cpu, const GroupedGemmWeightGrad&);
size_t grouped_gemm_weight_grad_workspace(Cuda, const GroupedGemmWeightGrad&);
Status grouped_gemm_weight_grad(Cpu, const GroupedGemmWeightGrad&);
Status grouped_gemm_weight_grad(Cuda, const GroupedGemmWeightGrad&);

}  // namespace moat::kernels
