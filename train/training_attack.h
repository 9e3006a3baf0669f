#pragma once

#include "attacks/pgd.h"
#include "train/step_report.h"

namespace moat::train {

// Models and batches as attacks see them, and the attacks of training steps: train.steps of
// train.step in the ball of train.eps, last iterate, batch norm in evaluation mode, input gradient
// only.

// The model in evaluation mode, for whatever is evaluated, attacked or analysed: throws UsageError
// where an image's result depends on others (token_room.h). A learner's is run as its steps run it,
// which may do so. What is given must outlive what is returned.
attacks::Model attack_model(const models::Classifier& model);
attacks::Model attack_model(const Learner& learner);

attacks::Victims victims_of(const data::Batch& batch);

// Whether the attack's gradient goes through gates in this iteration (train.gate).
attacks::Gate training_gate(const StepSettings& step);

// What tells the attacks of an iteration apart: the round of updates they precede, 0 or 1, and a
// number within the round.
struct AttackNumber {
  int round = 0;
  uint32_t stream = 0;
};

// From a uniform point of the ball; for the KL loss, as Zhang et al. 2019 have it, from the image
// and 0.001 N(0,1).
engine::Tensor training_pgd(const attacks::Model& model, const attacks::Victims& victims,
                            const attacks::Objective& objective, const StepSettings& step,
                            const AttackNumber& number);

// On the cross-entropy, or on the KL divergence from the clean logits, with train.attack_auxiliary
// of the auxiliary losses of token gates.
engine::Tensor training_attack(const Learner& learner, const data::Batch& batch, attacks::Loss loss,
                               const StepSettings& step, int round = 0);

// On the cross-entropy along given routes, int32 [n]: on these experts alone.
engine::Tensor training_attack_along(const Learner& learner, const data::Batch& batch,
                                     const engine::Tensor& routes, const StepSettings& step,
                                     uint32_t stream);

}  // namespace moat::train
