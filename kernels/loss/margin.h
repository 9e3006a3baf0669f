#pragma once

#include "kernels/target.h"

namespace moat::kernels {

// values[r] = max_{i != label} logits[r, i] - logits[r, label]: positive when misclassified. The
// runner-up is the first maximum; a NaN among the other classes wins. Needs two classes; a label
// outside [0, classes) is bad_args; on CUDA, where labels are not looked at before a launch, the
// row is NaN.
struct Margin {
  const void* logits;     // [rows, classes]
  const int32_t* labels;  // [rows]
  void* values;           // [rows]
  int rows, classes;
  Dtype dtype;
};
Status margin(Cpu, const Margin&);
Status margin(Cuda, const Margin&);

// d_logits[r] = d_values[r] at the runner-up, -d_values[r] at the label, 0 elsewhere. Labels as
// above.
struct MarginGrad {
  const void* logits;     // [rows, classes]
  const int32_t* labels;  // [rows]
  const void* d_values;   // [rows]
  void* d_logits;         // [rows, classes]
  int rows, classes;
  Dtype dtype;
};
Status margin_grad(Cpu, const MarginGrad&);
Status margin_grad(Cuda, const MarginGrad&);

}  // namespace moat::kernels
