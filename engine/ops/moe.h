#pragma once

#include "engine/ops/vision.h"
#include "engine/random.h"
#include "engine/tensor.h"
#include "kernels/gate/straight_through_gate.h"
#include "kernels/gate/topk_gate.h"

namespace moat::engine {

using kernels::ExpertGroups;     // count, kept, score
using kernels::GateForm;         // softmax_topk, softmax_topk_renorm, topk_softmax, sigmoid_topk
using kernels::GroupScore;       // two_largest, largest
using kernels::StraightThrough;  // raw, softmax

// Noise on the logits, drawn as random_normal(logits.shape(), samples, key, 0, deviation) draws it.
struct GateNoise {
  double deviation = 0;  // 0: none; 1 / experts in V-MoE
  RandomKey key = {.purpose = Purpose::gate_noise};
  Tensor samples = {};  // int32 [tokens], or undefined for the token's number
};

struct GateOptions {
  Tensor bias = {};  // [experts] in the format of the weights; sigmoid_topk only
  GateNoise noise = {};
  ExpertGroups groups = {};  // group-limited selection
};

// With noise, everything but the logits themselves means the noisy ones.
struct Gate {
  Tensor weights;  // [tokens, k]; float32 for bfloat16 logits, as the next ones
  Tensor experts;  // int32 [tokens, k], best first; ties go to the lowest index, NaN counts as -inf
  Tensor log_sum_exp;   // [tokens]
  Tensor margin;        // [tokens]: the selection stays while no score moves by half of it
  Tensor noisy_logits;  // [tokens, experts]; undefined without noise
  double deviation = 0;
};

// logits [tokens, experts], float32, float64 or bfloat16. Differentiable through the weights.
Gate topk_gate(const Tensor& logits, int k, GateForm form, const GateOptions& options = {});

// The straight-through gate of a hard top-1 router: value 1 for every token, and the gradient of
//   raw:     scores[t, experts[t]]            (Zhang et al. 2023, as released)
//   softmax: softmax(scores)[t, experts[t]]
// scores [tokens, experts], experts int32 [tokens] -> [tokens].
Tensor straight_through_gate(const Tensor& scores, const Tensor& experts, StraightThrough form);

// A batch sorted by expert: rows offsets[e] .. offsets[e + 1] of the sorted batch belong to e.
struct Segments {
  Tensor order;    // int32 [rows]: sorted position -> row of the batch
  Tensor inverse;  // int32 [rows]: row of the batch -> sorted position
  Tensor offsets;  // int32 [experts + 1]
  int experts() const { return to_int(offsets.size()) - 1; }
};
// Stable counting sort of experts int32 [rows] with values in [0, num_experts).
Segments sort_by_expert(const Tensor& experts, int num_experts);

// Convolution of a sorted batch with one filter bank per expert, rows [e·w, (e+1)·w) of
// filter [experts·w, r, s, c_in] for segment e: -> [n, h', w', w]. `gate` [n] or undefined
// multiplies each image's result; its value is taken to be 1 (straight-through), its gradient is
// the image's dot product <d_y, y>. Experts with an empty segment get a zero weight gradient.
Tensor grouped_conv2d(const Tensor& x, const Tensor& filter, const Segments& segments,
                      const Tensor& gate, const Conv2dOptions& options = {});

// The packed form with a folded batch norm (see PackedConv2d), a filter per segment:
//   y = activation(conv(x) + bias + residual)
// The gate multiplies the convolution before the norm, so that the bias does not scale with it:
// d_gate[i] = <d_pre, pre - bias - residual> over image i, pre being what the activation sees.
// Differentiable with respect to x, gate and residual.
Tensor grouped_conv2d_packed(const Tensor& x, const PackedConv2d& packed, const Segments& segments,
                             const Tensor& gate, const Tensor& residual, Activation activation);

}  // namespace moat::engine
