#pragma once

#include "kernels/routing/token_pieces.h"
#include "kernels/target.h"

namespace moat::kernels {

// How scores become weights and where selection looks.
enum class GateForm {
  softmax_topk,         // softmax over all experts, the k largest probabilities
  softmax_topk_renorm,  // the same, divided by their sum
  topk_softmax,         // the k largest logits, softmax over those
  sigmoid_topk,         // sigmoid scores; selection adds `bias`, the weights do not
};

// Noisy gating (Shazeer et al. 2017; Riquelme et al. 2021 with deviation 1 / experts): expert e of
// token t gets logit + deviation · z. z is the normal draw that kernels/basic/random.h makes for a
// row of experts: key `seed`, counter (e / 4, samples[t], iteration, purpose << 24 | stream).
struct GateNoise {
  double deviation = 0;              // 0: no noise, and nothing below is read
  const int32_t* samples = nullptr;  // [tokens], or nullptr for the token's number
  uint64_t seed = 0;
  uint32_t iteration = 0, purpose = 0, stream = 0;  // purpose < 2^8, stream < 2^24
};

// Group-limited selection (DeepSeek-AI 2024): experts stand in `count` groups of equal size, side
// by side, and only those of the `kept` best groups can be selected. A group's score is made of the
// selection scores of its experts; ties go to the lowest group.
enum class GroupScore { two_largest, largest };  // the sum of the two largest, or the largest
struct ExpertGroups {
  int count = 1, kept = 1;
  GroupScore score = GroupScore::two_largest;
};

// The k experts of each token and their weights, for any experts and any k <= experts.
//
// With noise, everything below means the noisy logits, the weights and the gradient included.
// Selection looks at the logits, or at sigmoid(logit) + bias; the larger score first, ties to the
// lowest index. Noise and sigmoid are exactly specified (kernels/gate/gate_score.h): identical
// logits select identical experts on every target. A NaN logit counts as -inf, and the score of
// -inf is -inf whatever its bias. Equal infinite maxima share the probability evenly, so that a row
// of -inf weighs its experts alike, and sigmoid(-inf) = 0: weights are finite, unless a deviation
// is so large that noise overflows and meets a logit of -inf.
//
// The margin certifies the selection: it stays what it is while every score moves by less than half
// of the margin. It is the k-th minus the (k+1)-th score among the experts of the kept groups or,
// where that is less, what parts the last kept group from the next (half of it for sums of two);
// +inf when there is no other choice.
//
// Outputs are in the compute format: float32 for bfloat16 logits.
struct TopkGate {
  const void* logits;  // [tokens, experts]
  const void* bias;    // [experts] in the compute format, or nullptr; sigmoid_topk only
  void* weights;       // [tokens, k]
  int32_t* experts;    // [tokens, k], best first
  void* log_sum_exp;   // [tokens], of all logits
  void* margin;        // [tokens]
  int tokens, num_experts, k;
  GateForm form;
  Dtype dtype;  // of the logits
  GateNoise noise = {};
  void* noisy_logits = nullptr;  // [tokens, experts] or nullptr
  ExpertGroups groups = {};      // count divides experts, k experts fit into the kept groups
  // [token_pieces(tokens).count, experts]: how often each expert was chosen in each piece of the
  // tokens, for routing_index. Or nullptr.
  int32_t* counts = nullptr;
};
Status topk_gate(Cpu, const TopkGate&);
Status topk_gate(Cuda, const TopkGate&);  // up to 4096 experts
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
  const void* d_weights;   // [tokens, k] in the compute format
  void* d_logits;          // [tokens, experts]
  int tokens, num_experts, k;
  GateForm form;
  Dtype dtype;                         // of logits and d_logits
  const void* noisy_logits = nullptr;  // as topk_gate wrote them: read in place of logits
};
Status topk_gate_grad(Cpu, const TopkGateGrad&);
Status topk_gate_grad(Cuda, const TopkGateGrad&);

// What both targets ask of the arguments.
constexpr bool is_valid(const GateNoise& a) {
  return a.deviation >= 0 && a.purpose < 1u << 8 && a.stream < 1u << 24;
}
constexpr bool is_valid(const TopkGate& a) {
  const ExpertGroups& g = a.groups;
  return a.tokens >= 0 && a.k >= 1 && a.k <= a.num_experts && is_valid(a.noise) &&
         (!a.bias || a.form == GateForm::sigmoid_topk) && g.count >= 1 && g.kept >= 1 &&
         g.kept <= g.count && a.num_experts % g.count == 0 &&
         a.k <= a.num_experts / g.count * g.kept;
}
constexpr bool is_valid(const TopkGateGrad& a) {
  return a.tokens >= 0 && a.k >= 1 && a.k <= a.num_experts;
}

}  // namespace moat::kernels
