#pragma once

#include "engine/ops/routing.h"
#include "kernels/experts/expert_activation.h"

namespace moat::engine {

using kernels::ExpertActivation;  // none, relu, gelu, gelu_tanh, swiglu

// Whether x holds the rows of the routing, or tokens to gather while loading.
enum class Rows { sorted, gathered };

// One product per expert: y[r, :] = x[row] · w[e]^T + bias[e] for the rows r of expert e, zeros in
// rows that no choice has. x [tokens · k, width] sorted or [tokens, width] gathered, w [experts, n,
// width], bias [experts, n] or undefined -> [tokens · k, n]; floating, w and bias and their
// gradients float32 beside a bfloat16 x. Differentiable with respect to x, w and bias; a gradient
// that nobody asked for is not computed.
Tensor grouped_gemm(const Tensor& x, const Tensor& w, const Tensor& bias, const Routing& routing,
                    Rows rows);

// activation(pre), row by row: [rows, width] -> [rows, width], half as wide for swiglu.
Tensor expert_activation(const Tensor& pre, ExpertActivation activation);

}  // namespace moat::engine
