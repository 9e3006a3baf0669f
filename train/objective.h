#pragma once

#include "train/training_attack.h"

namespace moat::train {

// The pieces methods are made of.

// Mean cross-entropy against the batch's labels, both of them where its images are mixed, with
// label smoothing: (1 - s) CE(y) + s mean over classes of CE.
engine::Tensor mean_cross_entropy(const engine::Tensor& logits, const data::Batch& batch,
                                  double smoothing);

// Balance of a router, Fedus et al. 2022 (Switch Transformer) equations 4-6: N Σ_e f_e P_e with f_e
// the share of images routed to e (a constant) and P_e the mean of softmax(scores)_e; 1 when
// uniform.
engine::Tensor balance_loss(const models::Prediction& prediction);

// The mode of the passes of a loss: training mode, or evaluation mode where batch norms are to use
// their running statistics (train.batch_norm).
engine::Mode loss_mode(const TrainSettings& train);

// A pass of a loss through an open gate; noise on token gates is that of the epoch and the images'
// ids.
models::Prediction training_pass(const Learner& learner, const engine::Tensor& images,
                                 const data::Batch& batch, const StepSettings& step);

// The loss with the auxiliary losses of token gates added, where the model has any.
engine::Tensor with_auxiliary(const engine::Tensor& loss, const models::Prediction& prediction);

// CE(clean) + beta · KL(clean ‖ adversarial), mean over the batch, target not detached (TRADES),
// plus the auxiliary losses of the clean pass.
struct TradesTerms {
  models::Prediction clean, adversarial;
  engine::Tensor loss;
};
TradesTerms trades_terms(const Learner& learner, const data::Batch& batch,
                         const engine::Tensor& adversarial, const StepSettings& step);

// Backward, checks, clip, one SGD step of each group, in that order. The checks are that the loss
// and the gradients are finite, before anything is changed, and that the updated parameters are.
void descend(engine::Tape& tape, const engine::Tensor& loss,
             const std::vector<engine::FlatParameters*>& groups,
             const std::vector<double>& learning_rates, const TrainSettings& settings,
             FiniteChecks& checks);

// A dense model has no scores.
void require_finite_scores(const models::Prediction& prediction, FiniteChecks& checks);

}  // namespace moat::train
