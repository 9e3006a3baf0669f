#pragma once

#include "data/image_set.h"
#include "engine/ops/augment.h"

namespace moat::data {

using engine::Augmentation;
using engine::Crop;
using engine::Flip;
using engine::Mixing;

// From bytes_of() a set with max_value to pixels, augmented where the bytes lie. What happens to a
// sample depends on (seed, its id, epoch) alone, not on the batch it is in.
Batch augmented(const Batch& bytes, int max_value, const Augmentation& augmentation, uint64_t seed,
                uint32_t epoch);

// The batch with its images mixed in pairs, each with the one behind it; as it is when `mixing` is
// off. How an image is mixed depends on (seed, its id, epoch), with which image on the batch.
Batch mixed(const Batch& pixels, const Mixing& mixing, uint64_t seed, uint32_t epoch);

}  // namespace moat::data
