#pragma once

#include <cstdint>

#include "kernels/target.h"

namespace moat::kernels {

enum class Flip : uint8_t { none, horizontal };

// From bytes to pixels, and the augmentation of training on small images, in one pass:
//   y[i, r, s, c] = fill[c]                                     in the square of cutout, else
//                   images[i, r + dy, x + dx, c] / max_value    rounded once; 0 outside of the
//                   image
//   x = s, or width - 1 - s where image i is flipped
// Crop and flip: a window of the image with zeros around it (He et al. 2016, section 4.2), which is
// the same as a translation by at most `padding` pixels that leaves zeros behind. dy and dx are
// uniform in [-padding, padding], a flip has probability 1/2. Cutout (DeVries and Taylor 2017,
// arXiv 1708.04552, section 3): rows and columns from centre - cutout / 2, `cutout` of them, the
// centre uniform in the image, so that the square may reach over the border.
//
// Draws come from Philox with key `seed` and counter (element / 4, ids[i], iteration,
// purpose << 24 | stream), word element % 4: what happens to an image depends on its id, not on the
// batch. Elements 0 and 1 are the window's place, bits · (2 · padding + 1) / 2^32 - padding, the
// highest bit of 2 flips, 4 and 5 are the square's centre, bits · height (width) / 2^32; all
// rounded down. The CPU half runs on the calling thread alone, so that a thread which loads data
// starts no pool of its own.
struct Augment {
  const uint8_t* images;           // [n, height, width, channels]
  const int32_t* ids;              // [n]
  const float* fill;               // [channels]; nullptr: 0
  float* y;                        // [n, height, width, channels]
  int n, height, width, channels;  // an image has less than 2^31 values
  int max_value;                   // at least 1; a byte v is the pixel v / max_value
  int padding;                     // pixels
  Flip flip;
  int cutout;  // side of the square in pixels; 0: none
  uint64_t seed;
  uint32_t iteration, purpose, stream;  // purpose < 2^8, stream < 2^24
};
Status augment(Cpu, const Augment&);
Status augment(Cuda, const Augment&);

}  // namespace moat::kernels
