#pragma once

#include <cstdint>

#include "kernels/target.h"

namespace moat::kernels {

// Layer normalisation (Ba, Kiros and Hinton 2016) of each row of x:
//   y = (x - mean) inv_std gamma + beta,  inv_std = 1 / sqrt(var + epsilon)
// with the biased variance of the row. gamma and beta are both there or both nullptr (1 and 0).
// They and the statistics are float32, float64 for a float64 x. The sums over a row are float64 on
// the CPU; on CUDA a thread's part of them is float32 (float64 for a float64 x), and the parts are
// added in float64; their order depends on the width alone. A row with a NaN or an infinity is all
// NaN.
struct LayerNorm {
  const void* x;      // [rows, width]
  const void* gamma;  // [width]
  const void* beta;   // [width]
  void* y;            // [rows, width]
  void* mean;         // [rows], kept for the gradient
  void* inv_std;      // [rows], kept for the gradient
  int rows, width;    // width >= 1
  double epsilon;
  Dtype dtype;
};
Status layer_norm(Cpu, const LayerNorm&);
Status layer_norm(Cuda, const LayerNorm&);

// With g = gamma d_y and x^ = (x - mean) inv_std:
//   d_x = inv_std (g - mean of g - x^ · mean of g x^) + added, means over the row
//   d_gamma = sum d_y x^, d_beta = sum d_y, over the rows: of fixed blocks of rows, which are added
//   in ascending order in float64
// Any of the outputs may be nullptr. The statistics are kept, 8 bytes beside the 2 to 8 bytes of
// each value of a row, because finding them again would take two more sums over every row.
struct LayerNormGrad {
  const void* d_y;      // [rows, width]
  const void* x;        // [rows, width]
  const void* gamma;    // [width] or nullptr
  const void* mean;     // [rows]
  const void* inv_std;  // [rows]
  const void* added;    // [rows, width] or nullptr: what x's gradient has by other ways
  void* d_x;            // [rows, width]
  void* d_gamma;        // [width]
  void* d_beta;         // [width]
  int rows, width;
  Dtype dtype;
};
size_t layer_norm_grad_workspace(Cpu, const LayerNormGrad&);
size_t layer_norm_grad_workspace(Cuda, const LayerNormGrad&);
Status layer_norm_grad(Cpu, const LayerNormGrad&);
Status layer_norm_grad(Cuda, const LayerNormGrad&);

}  // namespace moat::kernels
