#pragma once

#include "data/image_set.h"

namespace moat::data {

enum class Flip { none, horizontal };

struct Augmentation {
  int crop_padding = 0;  // p: a window of the image's size out of the image with p zeros around it
  Flip flip = Flip::none;  // horizontal: with probability 1/2, after the crop
};

// Augmented copies of the images. What happens to a sample depends on (seed, its id, epoch) alone,
// not on the batch it is in.
Batch augmented(const Batch& batch, const Augmentation& augmentation, uint64_t seed,
                uint32_t epoch);

}  // namespace moat::data
