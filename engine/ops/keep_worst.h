#pragma once

#include "engine/tensor.h"

namespace moat::engine {

// What an evaluation attack remembers of every image of a batch.
struct WorstPoints {
  Tensor points;     // float32 [images, …]: the first misclassified point, else that of most loss
  Tensor fooled_at;  // int32 [images]: number of the first misclassified point, -1: none yet
  Tensor best_loss;  // float32 [images]
};

// Before the first look: the images themselves, none of them fooled.
WorstPoints worst_points(const Tensor& images);

// Looks at the points [n, …] numbered `number` of the images rows [n], int32 and distinct, which
// are predicted int32 [n] at loss float32 [n]; labels int32 [images]. A NaN loss replaces nothing.
// Changes `worst` in place; returns int32 [1], how many of the n images still resist.
Tensor keep_worst(const WorstPoints& worst, const Tensor& points, const Tensor& rows,
                  const Tensor& predicted, const Tensor& labels, const Tensor& loss, int number);

}  // namespace moat::engine
