#pragma once

#include <span>
#include <vector>

#include "models/classifier.h"
#include "train/certify/pairs.h"

namespace moat::train {

// Bounds of a whole model, its router included, on boxes of pixels, through every expert that a
// point of the box can meet: interval bound propagation, or affine forms where the boxes carry
// them.

// Differences of logits (or scores) in float32 may differ from those in exact arithmetic, of which
// the bounds are, by this share of the terms that logits are sums of (engine::Differences): every
// bound is wider by it. The largest that tests see is a tenth of it.
inline constexpr double kFloat32Share = 0x1p-14;
// Half a unit in the last place of a float32 pixel: a point that an attack projected on the ball of
// eps lies within eps + this.
inline constexpr double kPixelRounding = 0x1p-24;

// What bounds carry besides low and high.
enum class Carry { nothing, slopes, affine_forms };

// The points within eps[i] (+ kPixelRounding) of image i that lie in [0, 1]; images float [n, h, w,
// c].
engine::Bounds box_around(const engine::Tensor& images, std::span<const double> eps,
                          Carry carry = Carry::nothing);
engine::Bounds all_images(const models::ClassifierSettings& settings);  // one box, with slopes

// Differences [n, k, k] of an interval as one Pairs per image, widened by kFloat32Share.
std::vector<Pairs> pairs_of(const engine::Differences& differences);
// Of the softmax of such logits, lower by kFloat32Share.
Pairs float32_probabilities(const Pairs& logits);
// The slopes of such differences, as they are.
std::vector<Pairs> slopes_of(const engine::Bounds& differences);

// What F_a - F_b is at least on each box, F being the model's logits, or for a dual model of
// probabilities their average. Throws for a model without bounds.
std::vector<Pairs> output_bounds(const models::Classifier& model, const engine::Bounds& boxes);

// Whether every point of each box takes the route of its image, experts[i] of `model`, which has a
// hard router of its own.
std::vector<bool> keeps_route(const models::Classifier& model, const engine::Bounds& boxes,
                              std::span<const int32_t> experts);

}  // namespace moat::train
