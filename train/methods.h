#pragma once

#include "train/step_report.h"

namespace moat::train {

// One training step of each method, one file each. All take the batch as it comes from the loader
// and update `learner`; what was not finite is in the report's checks.

// Cross-entropy on the images as they are.
StepReport natural_step(Learner& learner, const data::Batch& batch, const StepSettings& step);

// Adversarial training (Madry et al. 2018): cross-entropy on PGD examples; router and experts of a
// MoE are trained together, the AT(MoE) baseline of Zhang et al. 2023.
StepReport at_step(Learner& learner, const data::Batch& batch, const StepSettings& step);

// TRADES (Zhang et al. 2019): CE(x) + beta KL(x ‖ x'), x' by the KL attack.
StepReport trades_step(Learner& learner, const data::Batch& batch, const StepSettings& step);

// MART (Wang et al. 2020): boosted cross-entropy on the examples of at_step, and a KL term that
// counts most where the clean image is misclassified.
StepReport mart_step(Learner& learner, const data::Batch& batch, const StepSettings& step);

// AdvMoE (Zhang et al. 2023, arXiv 2308.10110), `paper` form: bi-level TRADES, alternating. The
// lower level updates everything but the router, the upper level the router alone, through the
// straight-through gate and against examples made anew for the updated experts.
// With train.form=released the objective of its code, see advmoe.h.
StepReport advmoe_step(Learner& learner, const data::Batch& batch, const StepSettings& step);

// RT-ER (Zhang et al. 2025, arXiv 2502.06832, equation 2): CE(F(x + d)) against the attack on the
// mixture, and beta KL(f_2(x) ‖ f_2(x + d_2)) against that on each image's second expert, see
// rt_er.h.
StepReport rt_er_step(Learner& learner, const data::Batch& batch, const StepSettings& step);

// JTDMoE (the same, Algorithm 1 as its code has it): on a dual model, in turns. The lower level is
// a step of RT-ER of the robust model. The upper level updates the standard one by the
// cross-entropy of the mixture on the images as they are, where the robust one, updated, is a
// constant in evaluation mode; without train.conditioned by its own cross-entropy.
StepReport jtdmoe_step(Learner& learner, const data::Batch& batch, const StepSettings& step);

using Step = StepReport (*)(Learner&, const data::Batch&, const StepSettings&);
Step find_method(const std::string& name);  // throws UsageError with the known names

}  // namespace moat::train
