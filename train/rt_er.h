#pragma once

#include <vector>

#include "train/objective.h"

namespace moat::train {

// The objective of RT-ER (Zhang et al. 2025, equation 2), piece by piece.

// The expert of each image's second largest score, int32 [n]; ties go to the lowest index.
engine::Tensor second_experts(const engine::Tensor& scores);

// A batch's images after the attacks that the objective names.
struct RtErExamples {
  engine::Tensor mixture;  // against the whole, the route chosen anew at each step
  // Against single experts: an expert of each image, int32 [n], and the images. One pair for
  // train.kl_experts=second, one for each expert for `all`.
  std::vector<engine::Tensor> experts, along;
};
RtErExamples rt_er_attacks(const Learner& learner, const data::Batch& batch,
                           const StepSettings& step);

// CE(F(x + d)) + beta Σ_pairs KL(f_e(x) ‖ f_e(x + d_e)), mean over the batch, target not detached.
// `clean` stays empty: no pass of the mixture sees the images themselves.
Terms rt_er_terms(const Learner& learner, const data::Batch& batch, const RtErExamples& examples,
                  const StepSettings& step);

}  // namespace moat::train
