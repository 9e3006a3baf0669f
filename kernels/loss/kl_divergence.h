#pragma once

#include "kernels/target.h"

namespace moat::kernels {

// values[r] = KL(P ‖ Q) = sum_i P_i (log P_i - log Q_i), P = softmax(p[r]), Q = softmax(q[r]), with
// log-softmax on both sides. Finite while the gaps between logits fit the format; an entry with
// P_i = 0 adds nothing.
struct KlDivergence {
  const void* p;  // [rows, classes] logits
  const void* q;  // [rows, classes] logits
  void* values;   // [rows]
  int rows, classes;
  Dtype dtype;
};
Status kl_divergence(Cpu, const KlDivergence&);
Status kl_divergence(Cuda, const KlDivergence&);

// d_p[r, i] = d_values[r] P_i ((log P_i - log Q_i) - KL)
// d_q[r, i] = d_values[r] (Q_i - P_i)
struct KlDivergenceGrad {
  const void* p;         // [rows, classes] logits
  const void* q;         // [rows, classes] logits
  const void* d_values;  // [rows]
  void* d_p;             // [rows, classes] or nullptr
  void* d_q;             // [rows, classes] or nullptr
  int rows, classes;
  Dtype dtype;
};
Status kl_divergence_grad(Cpu, const KlDivergenceGrad&);
Status kl_divergence_grad(Cuda, const KlDivergenceGrad&);

}  // namespace moat::kernels
