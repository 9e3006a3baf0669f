#pragma once

#include "engine/tensor.h"

namespace moat::engine {

// Row-wise losses, one value per row (no mean: what happens to a sample depends on the sample
// alone). logits float32 or float64 [rows, classes]; labels int32 [rows] in [0, classes): another
// label throws on a CPU, and on a GPU, where nobody looks at it, makes the row's value NaN (of
// targeted_margin: the logit of such a class counts as 0).

Tensor softmax(const Tensor& logits);  // along the last axis, any leading axes
Tensor log_softmax(const Tensor& logits);

// log-sum-exp(z) - z_y.
Tensor cross_entropy(const Tensor& logits, const Tensor& labels);

// The same against the labels of an image that was mixed from two:
// weight · CE(labels) + (1 - weight) · CE(other_labels); weight [rows] in the logits' dtype.
Tensor mixed_cross_entropy(const Tensor& logits, const Tensor& labels, const Tensor& other_labels,
                           const Tensor& weight);

// KL(softmax p ‖ softmax q) of two rows of logits, differentiable in both, finite for any finite
// logits: log-softmax on both sides, dKL/dp_i = P_i ((log P_i - log Q_i) - KL), dKL/dq = Q - P.
Tensor kl_divergence(const Tensor& p_logits, const Tensor& q_logits);

// max_{i ≠ y} z_i - z_y, positive when misclassified (Carlini & Wagner 2017); needs two classes.
// The gradient goes to the first maximum.
Tensor margin(const Tensor& logits, const Tensor& labels);

// z_t - z_y of a target class, int32 [rows] in [0, classes).
Tensor targeted_margin(const Tensor& logits, const Tensor& labels, const Tensor& targets);

// The margin over the spread of the largest logits, z_(1) - z_(3) + 1e-12, so that neither scaling
// nor shifting the logits hides the gradient (DLR, Croce & Hein 2020, eq. 6); needs three classes.
Tensor dlr(const Tensor& logits, const Tensor& labels);

// (z_t - z_y) / (z_(1) - (z_(3) + z_(4)) / 2 + 1e-12) (eq. 7); needs four classes.
Tensor targeted_dlr(const Tensor& logits, const Tensor& labels, const Tensor& targets);

}  // namespace moat::engine
