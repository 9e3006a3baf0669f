#pragma once

#include "kernels/target.h"

namespace moat::kernels {

// values[r] = log-sum-exp(logits[r]) - logits[r, labels[r]]. Keeps its digits when the label's
// logit towers. A row with a NaN or a +inf logit gives NaN. A label outside [0, classes) is
// bad_args; on CUDA, where labels are not looked at before a launch, the row is NaN.
struct CrossEntropy {
  const void* logits;     // [rows, classes]
  const int32_t* labels;  // [rows]
  void* values;           // [rows]
  int rows, classes;
  Dtype dtype;
};
Status cross_entropy(Cpu, const CrossEntropy&);
Status cross_entropy(Cuda, const CrossEntropy&);

// d_logits[r, i] = d_values[r] (softmax(logits[r])_i - [i = label]); the label's entry is computed
// as -(probability of all other classes), so that it never rounds to zero before they do. Labels as
// above.
struct CrossEntropyGrad {
  const void* logits;     // [rows, classes]
  const int32_t* labels;  // [rows]
  const void* d_values;   // [rows]
  void* d_logits;         // [rows, classes]
  int rows, classes;
  Dtype dtype;
};
Status cross_entropy_grad(Cpu, const CrossEntropyGrad&);
Status cross_entropy_grad(Cuda, const CrossEntropyGrad&);

}  // namespace moat::kernels
