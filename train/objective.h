#pragma once

#include "train/perturbed_weights.h"
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

// What an update minimises, and the passes in training mode that it takes, each nothing where there
// is no such pass.
struct Terms {
  models::Prediction clean, adversarial;
  engine::Tensor loss;
};

// With `weight` times the balance loss of the clean pass added, or of the adversarial one where it
// is alone; 0: as they are.
Terms balanced(Terms terms, double weight);

// CE(clean) + beta · KL(clean ‖ adversarial), mean over the batch, target not detached (TRADES),
// plus the auxiliary losses of the clean pass.
Terms trades_terms(const Learner& learner, const data::Batch& batch,
                   const engine::Tensor& adversarial, const StepSettings& step);

// MART's loss (Wang et al. 2020, section 3) of both passes' logits, mean over the batch:
//   CE(adversarial) - log(1 - max_{k ≠ y} p_k(adversarial))
//   + beta · KL(clean ‖ adversarial) (1 - p_y(clean)),
// nothing detached. The logarithm's argument has 1e-4 more, as in the authors' code, so that it is
// finite for any logits; label smoothing is that of the cross-entropy.
engine::Tensor mart_loss(const engine::Tensor& clean, const engine::Tensor& adversarial,
                         const data::Batch& batch, const TrainSettings& settings);

// Backward, checks, clip, one step of each group's optimizer, in that order; weights that were
// perturbed for the gradient are restored before the step. The checks are that the loss and the
// gradients are finite, before anything is changed, and that the updated parameters are.
void descend(engine::Tape& tape, const engine::Tensor& loss,
             const std::vector<engine::FlatParameters*>& groups,
             const std::vector<double>& learning_rates, const TrainSettings& settings,
             FiniteChecks& checks, PerturbedWeights* perturbed = nullptr);

// One update: `objective` records its terms on a tape that watches the groups, all else is a
// constant, and the groups descend. Reports the loss, the passes' predictions and, behind `earlier`
// ones of the same step, the checks, that of the router's scores among them.
StepReport update(const std::vector<engine::FlatParameters*>& groups,
                  const std::vector<double>& learning_rates, const data::Batch& batch,
                  const TrainSettings& settings, const std::function<Terms()>& objective,
                  const FiniteChecks& earlier = {}, PerturbedWeights* perturbed = nullptr);

}  // namespace moat::train
