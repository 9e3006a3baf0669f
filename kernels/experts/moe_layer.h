#pragma once

#include "kernels/experts/expert_activation.h"
#include "kernels/experts/grouped_gemm.h"
#include "kernels/gate/topk_gate.h"
#include "kernels/target.h"

namespace moat::kernels {

// The whole mixture-of-experts layer, from the router's logits to the tokens it gives back,
// composed of the kernels beside it:
//   weights, experts = topk_gate(logits)            of each token, the rows sorted by expert then
//   rows[r]          = activation(x[row_token[r]] · w_in[e]^T + b_in[e]) · w_out[e]^T + b_out[e]
//   y[t]             = sum over j of weights[t, j] · rows[slot_of[t, j]]
// With a capacity, choices beyond it are dropped as routing_index says; a token that loses all of
// them is zero. R = tokens · k rows, of which those from offsets[num_experts] on are zeros.
//
// What the gate writes, and biases, are float32 for float32 and bfloat16, float64 for float64.
// Logits have a format of their own: a float32 router may serve bfloat16 experts. What the backward
// pass reads is the caller's: pre and rows may be nullptr where there will be none. CUDA takes up
// to 4096 experts, as topk_gate does.
struct MoeLayer {
  const void* x;          // [tokens, width]
  const void* logits;     // [tokens, num_experts], gate_dtype
  const void* gate_bias;  // [num_experts] or nullptr; sigmoid_topk only
  const void* priority;   // [tokens], gate_dtype, or nullptr: who is dropped last
  const void* w_in;       // [num_experts, inner, width]
  const void* b_in;       // [num_experts, inner] or nullptr
  const void* w_out;      // [num_experts, out_width, activated_width(inner)]
  const void* b_out;      // [num_experts, out_width] or nullptr
  void* y;                // [tokens, out_width]
  void* weights;          // [tokens, k]
  int32_t* experts;       // [tokens, k]
  void* log_sum_exp;      // [tokens], as topk_gate writes it
  void* margin;           // [tokens], as topk_gate writes it
  void* noisy_logits;     // [tokens, num_experts] or nullptr; noise only
  int32_t* offsets;       // [num_experts + 1]
  int32_t* row_token;     // [R]
  int32_t* slot_of;       // [tokens, k]
  void* pre;              // [R, inner] or nullptr
  void* rows;             // [R, out_width] or nullptr
  int tokens, num_experts, k, width, inner, out_width;
  int capacity;  // choices per expert; 0: unlimited
  GateForm form;
  ExpertActivation activation;
  Dtype dtype, gate_dtype;
  GateNoise noise = {};
  ExpertGroups groups = {};
  Precision precision = Precision::float32;
};
size_t moe_layer_workspace(Cpu, const MoeLayer&);
size_t moe_layer_workspace(Cuda, const MoeLayer&);
Status moe_layer(Cpu, const MoeLayer&);
Status moe_layer(Cuda, const MoeLayer&);

// A result that is nullptr is not computed, and what only it needs is neither computed nor read:
// without d_w_in and d_w_out this is the input-only backward, two products in place of four.
struct MoeLayerGrad {
  const void* d_y;           // [tokens, out_width]
  const void* x;             // [tokens, width], for d_w_in
  const void* logits;        // [tokens, num_experts], gate_dtype, for d_logits
  const void* noisy_logits;  // [tokens, num_experts] where there was noise, else nullptr
  const void* w_in;          // [num_experts, inner, width], for d_x
  const void* w_out;         // [num_experts, out_width, activated_width(inner)], d_x and d_w_in
  const void* weights;       // [tokens, k], as moe_layer wrote them, and so on
  const int32_t* experts;    // [tokens, k], for d_logits
  const int32_t* offsets;    // [num_experts + 1]
  const int32_t* row_token;  // [R], for d_w_in
  const int32_t* slot_of;    // [tokens, k]
  const void* pre;           // [R, inner], for all but d_logits
  const void* rows;          // [R, out_width], for d_logits
  void* d_x;                 // [tokens, width]
  void* d_logits;            // [tokens, num_experts], gate_dtype
  void* d_w_in;              // [num_experts, inner, width], float32 for bfloat16
  void* d_b_in;              // [num_experts, inner]; only with d_w_in
  void* d_w_out;             // [num_experts, out_width, activated_width(inner)], float32 for bf16
  void* d_b_out;             // [num_experts, out_width]; only with d_w_out
  int tokens, num_experts, k, width, inner, out_width;
  GateForm form;
  ExpertActivation activation;
  Dtype dtype, gate_dtype;
  Precision precision = Precision::float32;
};
size_t moe_layer_grad_workspace(Cpu, const MoeLayerGrad&);
size_t moe_layer_grad_workspace(Cuda, const MoeLayerGrad&);
Status moe_layer_grad(Cpu, const MoeLayerGrad&);
Status moe_layer_grad(Cuda, const MoeLayerGrad&);

}  // namespace moat::kernels
