#pragma once

#include "engine/ops/moe.h"
#include "kernels/gate/gate_losses.h"

namespace moat::engine {

using kernels::GateLoss;  // importance, load, balance, z: places in the result of gate_losses

// The auxiliary losses of a gate that topk_gate made from these logits -> [4], in the order of
// GateLoss and float32 for bfloat16 logits; definitions in kernels/gate/gate_losses.h. They are
// sums over all tokens given: V-MoE calls it per group of images and averages. Differentiable with
// respect to the logits, with the chosen experts and the noise as constants; a training step takes
// sum(mul(losses, weights)).
Tensor gate_losses(const Tensor& logits, const Gate& gate);

}  // namespace moat::engine
