#pragma once

#include "kernels/target.h"

namespace moat::kernels {

enum class StraightThrough { raw, softmax };

// The gradient of a hard top-1 gate whose value is 1 for every token:
//   raw:     d_scores[t, i] = d_gate[t] [i = experts[t]]
//   softmax: d_scores[t, i] = d_gate[t] p_e ([i = e] - p_i), e = experts[t], p = softmax(scores[t])
// An expert outside [0, num_experts) is bad_args.
struct StraightThroughGateGrad {
  const void* scores;      // [tokens, experts]
  const int32_t* experts;  // [tokens]
  const void* d_gate;      // [tokens]
  void* d_scores;          // [tokens, experts]
  int tokens, num_experts;
  StraightThrough form;
  Dtype dtype;
};
Status straight_through_gate_grad(Cpu, const StraightThroughGateGrad&);
Status straight_through_gate_grad(Cuda, const StraightThroughGateGrad&);

}  // namespace moat::kernels
