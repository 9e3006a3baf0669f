#pragma once

#include "engine/tensor.h"

namespace moat::engine {

// Multi-head self-attention between its two linear layers (Vaswani et al. 2017, section 3.2):
// softmax(q kᵀ / sqrt(head_width)) v for each image and head, without a mask or dropout.
// qkv [batch, tokens, 3 · heads · head_width], q, k and v of all heads behind each other as timm's
// fused linear layer gives them -> [batch, tokens, heads · head_width]. The scores are never in
// memory as a whole. Differentiable; an image's result does not depend on its batch. Throws when
// qkv's last axis is not 3 · heads · head_width with a head_width from 1 to 128.
Tensor attention(const Tensor& qkv, int heads);

}  // namespace moat::engine
