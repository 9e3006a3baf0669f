#pragma once

#include "train/step_report.h"

namespace moat::train {

// The levels of AdvMoE. `earlier` are the checks of the step's levels before.

// TRADES on the batch and its adversarial form, updating one group of parameters; the other group
// is a constant, so that none of its gradients is computed.
StepReport trades_level(Learner& learner, engine::FlatParameters& group, double learning_rate,
                        double balance_weight, const data::Batch& batch,
                        const engine::Tensor& adversarial, const StepSettings& step,
                        const FiniteChecks& earlier = {});

// KL(softmax p ‖ softmax q) of rows of logits, [rows], differentiable in both.
using Divergence = engine::Tensor (*)(const engine::Tensor& p_logits,
                                      const engine::Tensor& q_logits);

// The attack of the release: KL of the logits and KL of the router's scores, each from what the
// clean image has in evaluation mode, summed with equal weights.
engine::Tensor joint_attack(const Learner& learner, const data::Batch& batch,
                            const StepSettings& step, int round);

// The router's level of the release: train.router_weight CE(s(x), y mod N) + beta KL(s(x) ‖ s(x')),
// where s are the scores of N experts. The target is not detached.
StepReport router_level(Learner& learner, const data::Batch& batch,
                        const engine::Tensor& adversarial, const StepSettings& step,
                        const FiniteChecks& earlier, Divergence divergence);

// AdvMoE as its code has it: on the same batch TRADES of everything but the router, then the
// router's level, each against a joint attack on the model as it is then. What the code does beside
// this is not repeated: a divergence that turns NaN once a probability is 0 (tests have it), scores
// to attack from that come from training mode, passes in training mode for a printed accuracy.
StepReport released_advmoe_step(Learner& learner, const data::Batch& batch,
                                const StepSettings& step, Divergence divergence);

}  // namespace moat::train
