#pragma once

#include "data/image_set.h"
#include "engine/ops/augment.h"

namespace moat::data {

using engine::Flip;

struct Augmentation {
  int crop_padding = 0;  // p: a window of the image's size out of the image with p zeros around it
  Flip flip = Flip::none;  // horizontal: with probability 1/2, after the crop
};

// From bytes_of() a set with max_value to pixels, augmented where the bytes lie. What happens to a
// sample depends on (seed, its id, epoch) alone, not on the batch it is in.
Batch augmented(const Batch& bytes, int max_value, const Augmentation& augmentation, uint64_t seed,
                uint32_t epoch);

}  // namespace moat::data
