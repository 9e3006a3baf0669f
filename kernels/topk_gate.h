#pragma once

#include "kernels/target.h"

namespace moat::kernels {

// How scores become weights and where selection looks.
enum class GateForm {
  softmax_topk,         // softmax over all experts, the k largest probabilities
  softmax_topk_renorm,  // the same, divided by their sum
  topk_softmax,         // the k largest logits, softmax over those
  sigmoid_topk,         // sigmoid scores; selection adds `bias`, the weights do not
};

// The k experts of each token and their weights, for any experts and any k <= experts.
//
// Selection looks at the logits, or at sigmoid(logit) + bias; the larger score first, ties to the
// lowest index. The sigmoid of a selection score is exactly specified (kernels/sigmoid.h):
// identical logits select identical experts on every target. A NaN logit counts as -inf, and the
// score of -inf is -inf whatever its bias. Weights are always finite: equal infinite maxima share
// the probability evenly, so that a row of -inf weighs its experts alike; sigmoid(-inf) = 0.
struct TopkGate {
  const void* logits;  // [tokens, experts]
  const void* bias;    // [experts] or nullptr; sigmoid_topk only
  void* weights;       // [tokens, k]
  int32_t* experts;    // [tokens, k], best first
  void* log_sum_exp;   // [tokens], of all logits
  void* margin;        // [tokens], k-th minus (k+1)-th selection score; +inf when k = experts
  int tokens, num_experts, k;
  GateForm form;
  Dtype dtype;
};
Status topk_gate(Cpu, const TopkGate&);
Status topk_gate(Cuda, const TopkGate&);
size_t topk_gate_workspace(Cpu, const TopkGate&);
size_t topk_gate_workspace(Cuda, const TopkGate&);

// Through the weights, the selection held fixed; S = selected experts, w and d_w of token t:
//   softmax_topk:  d_logits_i = [i in S] w_i d_w_i - p_i sum_S w_j d_w_j, p the softmax over all
//   topk_softmax,
//   renorm:        d_logits_i = [i in S] w_i (d_w_i - sum_S w_j d_w_j)
//   sigmoid_topk:  d_logits_i = [i in S] d_w_i w_i (1 - w_i)
struct TopkGateGrad {
  const void* logits;      // [tokens, experts]
  const int32_t* experts;  // [tokens, k], as topk_gate wrote them
  const void* weights;     // [tokens, k], as topk_gate wrote them
  const void* d_weights;   // [tokens, k]
  void* d_logits;          // [tokens, experts]
  int tokens, num_experts, k;
  GateForm form;
  Dtype dtype;
};
Status topk_gate_grad(Cpu, const TopkGateGrad&);
Status topk_gate_grad(Cuda, const TopkGateGrad&);

}  // namespace moat::kernels
