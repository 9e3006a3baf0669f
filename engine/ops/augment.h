#pragma once

#include "engine/random.h"
#include "engine/tensor.h"
#include "kernels/vision/crop_flip.h"

namespace moat::engine {

using kernels::Flip;

// Pixels from bytes, float32 like `images`: uint8 [n, height, width, channels] / max_value, a
// window of the image's size out of the image with `padding` zeros around it, mirrored with
// probability 1/2 if `flip` is horizontal. Draws are those of `key` for the samples ids, int32 [n]:
// elements 0 and 1 place the window, 2 flips. On a CPU it runs on the calling thread alone.
Tensor crop_flip(const Tensor& images, const Tensor& ids, int max_value, int padding, Flip flip,
                 const RandomKey& key);

}  // namespace moat::engine
