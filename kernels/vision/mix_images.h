#pragma once

#include <cstdint>

#include "kernels/target.h"

namespace moat::kernels {

// Mixes each image i of a batch, and its label, with the image j = (i + 1) mod n behind it:
//   y[i] = inside · images[i] + (1 - inside) · images[j] in a box, images[i] elsewhere
// every operation rounded once to float32, so that values in [0, 1] stay there.
//   mixup (Zhang et al. 2018, arXiv 1710.09412, section 2): the box is the image, inside = lambda
//   CutMix (Yun et al. 2019, arXiv 1905.04899, section 3.1): inside = 0; a box of height ·
//     sqrt(1 - lambda) by width · sqrt(1 - lambda), rounded down, its centre uniform in the image
// lambda ~ Beta(a, a), drawn for each image, with a = `mixup` or `cutmix`; 0 turns a way off, and
// where both are on an image goes either way with probability 1/2. The box has the rows and columns
// from centre - side / 2, `side` of them, as far as they lie in the image. The share of image i in
// y[i] is lambda, or for CutMix the part of the image that the box leaves.
//
// Draws are those of Philox with key `seed` and counter (element / 4, ids[i], iteration,
// purpose << 24 | stream), word element % 4: the highest bit of element 0 chooses CutMix, 1 and 2
// make lambda (symmetric_beta() in kernels/basic/philox.h), 4 and 5 the centre, bits · extent /
// 2^32. How an image is mixed depends on its id alone; with what, on the image behind it in the
// batch. The CPU half runs on the calling thread alone, as that of `augment`.
struct MixImages {
  const float* images;    // [n, height, width, channels]
  const int32_t* labels;  // [n]
  const int32_t* ids;     // [n]
  float* y;               // [n, height, width, channels]
  int32_t* mixed_labels;  // [n] of the two images the one with the larger share, i in a tie
  int32_t* other_labels;  // [n] the other one
  float* weights;         // [n] the share of mixed_labels, from 1/2 to 1
  int n, height, width, channels;  // an image has less than 2^31 values
  double mixup, cutmix;            // finite, not negative, one of them above 0
  uint64_t seed;
  uint32_t iteration, purpose, stream;  // purpose < 2^8, stream < 2^24
};
Status mix_images(Cpu, const MixImages&);
Status mix_images(Cuda, const MixImages&);

}  // namespace moat::kernels
