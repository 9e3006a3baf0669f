#pragma once

// A small net trained on the digits, and models around it that are broken in the ways that fool
// evaluations: the checks of attacks/checks have to find each of them.

#include "attacks/model.h"
#include "attacks/victims.h"
#include "train/learner.h"

namespace moat::tests {

// Adversarially trained in a few seconds, with a hundred images of the test split.
struct TrainedDigits {
  train::Learner learner;
  attacks::Victims victims;
  explicit TrainedDigits(const models::ClassifierSettings& settings);
  attacks::Model model() const;
};
models::ClassifierSettings dense_on_digits();
models::ClassifierSettings routed_on_digits();

// What is called keeps a copy of `model`.
attacks::Model zero_gradient(const attacks::Model& model);  // outputs cut off from the pixels
attacks::Model reversed_gradient(const attacks::Model& model);
// The gradient only of a few pixels, others in each pass.
attacks::Model sparse_gradient(const attacks::Model& model);
// No gradient but at pixels k/16, where the images are.
attacks::Model gradient_on_lattice(const attacks::Model& model);
enum class Rounding { without_gradient, straight_through };
attacks::Model quantised(const attacks::Model& model, Rounding rounding);
attacks::Model scaled_logits(const attacks::Model& model, double factor);
attacks::Model softmax_head(const attacks::Model& model);
// The image seen through the k largest of `units` random features (k winners take all), 8x8x1.
attacks::Model winners_take_all(const attacks::Model& model, int units, int k);
attacks::Model noisy_input(const attacks::Model& model, double deviation);  // another in each pass
attacks::Model not_finite_on_white(const attacks::Model& model);

// Of two experts that are `model` and `model` with smaller logits, by the sign of a score.
enum class Routing {
  sound,             // a linear score in the middle of nowhere, straight-through
  shattered,         // a score that oscillates with the pixels
  without_gradient,  // an argmax the gradient does not see
  by_class,          // even and odd classes
  limited,           // half of a batch at most per expert, in its order; who is late gets zeros
};
attacks::Model two_experts(const attacks::Model& model, Routing routing);

}  // namespace moat::tests
