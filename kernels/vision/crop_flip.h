#pragma once

#include <cstdint>

#include "kernels/target.h"

namespace moat::kernels {

enum class Flip : uint8_t { none, horizontal };

// From bytes to pixels, and the augmentation of training on small images (He et al. 2016, section
// 4.2), in one pass:
//   y[i, r, s, c] = images[i, r + dy, x + dx, c] / max_value, rounded once; 0 outside of the image
//   x = s, or width - 1 - s where image i is flipped
// The window's offsets dy and dx are uniform in [-padding, padding], a flip has probability 1/2.
// They are the words 0, 1 and 2 of the Philox block with key `seed` and counter
//   (0, ids[i], iteration, purpose << 24 | stream)
// as bits · (2 · padding + 1) / 2^32 - padding, rounded down, and the highest bit: what happens to
// an image depends on its id, not on the batch. The CPU half runs on the calling thread alone, so
// that a thread which loads data starts no pool of its own.
struct CropFlip {
  const uint8_t* images;           // [n, height, width, channels]
  const int32_t* ids;              // [n]
  float* y;                        // [n, height, width, channels]
  int n, height, width, channels;  // an image has less than 2^31 values
  int max_value;                   // at least 1; a byte v is the pixel v / max_value
  int padding;                     // pixels
  Flip flip;
  uint64_t seed;
  uint32_t iteration, purpose, stream;  // purpose < 2^8, stream < 2^24
};
Status crop_flip(Cpu, const CropFlip&);
Status crop_flip(Cuda, const CropFlip&);

}  // namespace moat::kernels
