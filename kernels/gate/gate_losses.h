#pragma once

#include "kernels/target.h"

namespace moat::kernels {

// The auxiliary losses of a gate, over T tokens and E experts, in the order of the result:
//   importance  (Shazeer et al. 2017) the squared coefficient of variation, variance / mean^2 over
//               the experts, of I_e = sum_t p_te
//   load        (Shazeer et al. 2017; Riquelme et al. 2021, section 2.3) the same of
//               L_e = mean_t Phi((x_te - eta_t) / deviation): the probability that expert e is
//               among the k best of token t when its noise is drawn again. eta_t is the noisy logit
//               of the k-th chosen expert. 0 without noise
//   balance     (Lepikhin et al. 2021; Fedus et al. 2021) E sum_e f_e m_e, f_e the share of tokens
//               whose first choice is e, m_e = mean_t q_te. 1 at balance
//   z           (Zoph et al. 2022) mean_t (log sum_e exp x_te)^2
// x the logits, p their softmax, q the softmax of the noisy logits (p without noise). NaN counts as
// -inf, as in topk_gate. Variances are written out, so that the losses and their gradients are
// finite at exact balance. No tokens: all 0.
enum class GateLoss { importance = 0, load = 1, balance = 2, z = 3 };
inline constexpr int kGateLosses = 4;

// What the losses need to know of each expert, in the order of the rows of `sums`.
enum class ExpertSum {
  importance = 0,
  gates = 1,
  load = 2,
  first_choices = 3
};  // sums over tokens
inline constexpr int kExpertSums = 4;

struct GateLosses {
  const void* logits;        // [tokens, experts]
  const void* noisy_logits;  // [tokens, experts] as topk_gate wrote them, or nullptr: no noise
  const int32_t* experts;    // [tokens, k], as topk_gate wrote them
  void* losses;              // [4] in the compute format: float32 for bfloat16 logits
  double* sums;              // [4, experts], for the gradient
  int tokens, num_experts, k;
  double deviation;  // of the noise; positive where noisy_logits is given
  Dtype dtype;       // of the logits
};
Status gate_losses(Cpu, const GateLosses&);
Status gate_losses(Cuda, const GateLosses&);  // up to 4096 experts
size_t gate_losses_workspace(Cpu, const GateLosses&);
size_t gate_losses_workspace(Cuda, const GateLosses&);

// The gradient of sum_l d_losses[l] · losses[l], added up over the four. The choice of experts and
// the noise are constants; eta_t moves with the logit of the k-th chosen expert.
struct GateLossesGrad {
  const void* logits;        // as in GateLosses
  const void* noisy_logits;  // as in GateLosses
  const int32_t* experts;    // as in GateLosses
  const double* sums;        // [4, experts], as gate_losses wrote them
  const void* d_losses;      // [4] in the compute format
  void* d_logits;            // [tokens, experts]
  int tokens, num_experts, k;
  double deviation;
  Dtype dtype;  // of logits and d_logits
};
Status gate_losses_grad(Cpu, const GateLossesGrad&);
Status gate_losses_grad(Cuda, const GateLossesGrad&);
size_t gate_losses_grad_workspace(Cpu, const GateLossesGrad&);
size_t gate_losses_grad_workspace(Cuda, const GateLossesGrad&);

// What both targets ask of the arguments.
template <class Args>
constexpr bool is_valid_gate_loss(const Args& a) {
  return a.tokens >= 0 && a.k >= 1 && a.k <= a.num_experts && (!a.noisy_logits || a.deviation > 0);
}

// Sums run in pieces of consecutive tokens, whose number depends on that of the tokens alone; the
// pieces are then added in their order. A piece's partial sums: [4, experts] and one for z.
constexpr int num_pieces(int tokens) {
  const int pieces = (tokens + 63) / 64;
  return pieces < 1 ? 1 : pieces > 512 ? 512 : pieces;
}
constexpr int64_t piece_begin(int tokens, int piece) {
  return int64_t{tokens} * piece / num_pieces(tokens);
}
constexpr int64_t piece_size(int num_experts) { return int64_t{kExpertSums} * num_experts + 1; }

// variance / mean^2 of the experts' sums, 0 where all are 0, and its gradient with respect to them:
// 2 (s_e - mean (1 + variation)) / (experts · mean^2).
struct Variation {
  double mean = 0, variation = 0;
  int count = 1;

  constexpr double gradient(double sum) const {
    return mean == 0 ? 0 : 2 * (sum - mean * (1 + variation)) / (count * mean * mean);
  }
};

}  // namespace moat::kernels
