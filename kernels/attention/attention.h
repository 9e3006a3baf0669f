#pragma once

#include "kernels/target.h"

namespace moat::kernels {

inline constexpr int kMostHeadWidth = 128;

// Multi-head self-attention between its two projections (Vaswani et al. 2017, section 3.2). For
// each image and head, with the rows q_i, k_j, v_j of qkv:
//   s_ij = <q_i, k_j> / sqrt(head_width)
//   y_i  = sum_j p_ij v_j,  p_ij = exp(s_ij - log_sum_exp_i),  log_sum_exp_i = log sum_j exp(s_ij)
// for any scores that are finite in the compute type. A score that is NaN or +inf makes its row of
// y NaN. The scores are never in memory as a whole: on the CPU a thread holds 64 rows of them, on
// CUDA a block of threads holds a tile, with the running maximum and sum of Dao 2023
// (FlashAttention-2, algorithm 1). What an image's head gives does not depend on the batch.
//
// Rounding: scores, probabilities and all sums are float64 for float64 values, else float32, and y
// is rounded once. On CUDA's tensor cores (bfloat16, and float32 with Precision::tf32) every
// operand of a product is bfloat16 or tf32, the probabilities that meet v as well.
struct Attention {
  const void* qkv;    // [batch, tokens, 3, heads, head_width], as one linear layer gives it
  void* y;            // [batch, tokens, heads, head_width]
  void* log_sum_exp;  // [batch, heads, tokens] float32 (float64 for float64), kept for the gradient
  int batch, tokens;
  int heads, head_width;  // >= 1; head_width <= kMostHeadWidth; on CUDA heads < 5e6
  Dtype dtype;
};
size_t attention_workspace(Cpu, const Attention&);
size_t attention_workspace(Cuda, const Attention&);
Status attention(Cpu, const Attention&);
Status attention(Cuda, const Attention&);

// The probabilities are computed again from log_sum_exp (Dao 2023, algorithm 2). With
// D_i = <d_y_i, y_i> and d_s_ij = p_ij (<d_y_i, v_j> - D_i) / sqrt(head_width):
//   d_q_i = sum_j d_s_ij k_j,  d_k_j = sum_i d_s_ij q_i,  d_v_j = sum_i p_ij d_y_i
// For bfloat16 on CUDA, up to 80 tokens and a head_width up to 64, D_i is the mean of <d_y_i, v_j>
// by p_ij.
// Every sum has its own owner and a fixed order: no atomics. Formats as above: on the tensor cores
// p and d_s are rounded for these sums.
struct AttentionGrad {
  const void* qkv;          // [batch, tokens, 3, heads, head_width]
  const void* y;            // [batch, tokens, heads, head_width]
  const void* log_sum_exp;  // [batch, heads, tokens]
  const void* d_y;          // [batch, tokens, heads, head_width]
  void* d_qkv;              // [batch, tokens, 3, heads, head_width]
  int batch, tokens, heads, head_width;
  Dtype dtype;
};
size_t attention_grad_workspace(Cpu, const AttentionGrad&);
size_t attention_grad_workspace(Cuda, const AttentionGrad&);
Status attention_grad(Cpu, const AttentionGrad&);
Status attention_grad(Cuda, const AttentionGrad&);

}  // namespace moat::kernels
