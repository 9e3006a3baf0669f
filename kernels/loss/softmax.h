#pragma once

#include "kernels/target.h"

namespace moat::kernels {

enum class SoftmaxForm { softmax, log_softmax };

// Along each row: y_i = exp(x_i) / sum_j exp(x_j), or its logarithm, for any finite logits. A row
// with a NaN, a +inf or nothing but -inf is all NaN.
struct Softmax {
  const void* x;  // [rows, columns]
  void* y;        // [rows, columns]
  int rows, columns;
  SoftmaxForm form;
  Dtype dtype;
};
Status softmax(Cpu, const Softmax&);
Status softmax(Cuda, const Softmax&);

// softmax:     d_x_i = y_i (d_y_i - sum_j y_j d_y_j)
// log_softmax: d_x_i = d_y_i - exp(y_i) sum_j d_y_j
struct SoftmaxGrad {
  const void* y;    // [rows, columns], the result of the forward kernel
  const void* d_y;  // [rows, columns]
  void* d_x;        // [rows, columns]
  int rows, columns;
  SoftmaxForm form;
  Dtype dtype;
};
Status softmax_grad(Cpu, const SoftmaxGrad&);
Status softmax_grad(Cuda, const SoftmaxGrad&);

}  // namespace moat::kernels
