#pragma once

#include "kernels/target.h"

namespace moat::kernels {

// The difference of logits ratio (Croce & Hein 2020, eq. 6), which neither scaling nor shifting the
// logits z of a row changes. With z_(1) >= z_(2) >= … the sorted logits, equal ones in the order of
// their index, y the label, o the first class of that order that is not y and t the target:
//   values[r] = (z_o - z_y) / (z_(1) - z_(3) + 1e-12)                  without targets
//   values[r] = (z_t - z_y) / (z_(1) - (z_(3) + z_(4)) / 2 + 1e-12)    with targets
// Without targets it is positive when misclassified. Computed in float64; the result may overflow
// where the leading logits are all equal and y is not among them. A NaN sorts before all numbers
// and makes its row NaN. Needs three classes, with targets four; a label or target outside [0,
// classes) is bad_args; on CUDA, where they are not looked at before a launch, the row is NaN.
struct Dlr {
  const void* logits;      // [rows, classes]
  const int32_t* labels;   // [rows]
  const int32_t* targets;  // [rows], or nullptr
  void* values;            // [rows]
  int rows, classes;
  Dtype dtype;
};
Status dlr(Cpu, const Dlr&);
Status dlr(Cuda, const Dlr&);

// With values = N / D: d_logits[r] = d_values[r] (dN / D - N / D² dD), where dN is 1 at o or t and
// -1 at y, and dD is 1 at the first of the order and -1 at the third, or -1/2 at third and fourth.
// NaN rows are NaN at these classes and 0 elsewhere.
struct DlrGrad {
  const void* logits;      // [rows, classes]
  const int32_t* labels;   // [rows]
  const int32_t* targets;  // [rows], or nullptr
  const void* d_values;    // [rows]
  void* d_logits;          // [rows, classes]
  int rows, classes;
  Dtype dtype;
};
Status dlr_grad(Cpu, const DlrGrad&);
Status dlr_grad(Cuda, const DlrGrad&);

}  // namespace moat::kernels
