#pragma once

#include <cstdint>

#include "kernels/target.h"

namespace moat::kernels {

enum class Flip : uint8_t { none, horizontal };

// Which part of an image is seen.
enum class Crop : uint8_t {
  centre,  // the middle one
  window,  // anywhere, in the image or in the zeros around it
  area     // a box of random size and shape, resampled to the size of the result
};

// From bytes to pixels, and the augmentation of training, in one pass:
//   y[i, r, s, c] = fill[c]                                     in the square of cutout, else
//                   crop_i[r, x, c] / max_value                 rounded once
//   x = s, or y_width - 1 - s where image i is flipped
// A flip has probability 1/2. What crop_i is, of y_height by y_width:
//   centre  the rows from centred(height, y_height) and the columns likewise
//   window  rows from dy, uniform in [-padding, height - y_height + padding], columns from dx
//           likewise, 0 outside of the image: a window of the image with zeros around it (He et al.
//           2016, section 4.2), without padding one of a larger image
//   area    (Szegedy et al. 2015, arXiv 1409.4842, section 6) of ten boxes the first that fits:
//           a share of the image's area uniform in [least_area, 1], width / height log-uniform in
//           [3/4, 4/3], both sides rounded to nearest, its place uniform; where none fits the
//           middle box of the largest area with a shape in this range. Resampled by triangles that
//           a reduction widens (`Triangle`), in whole numbers.
// Cutout (DeVries and Taylor 2017, arXiv 1708.04552, section 3): rows and columns from
// centre - cutout / 2, `cutout` of them, the centre uniform in y, so that the square may reach over
// the border.
//
// Draws come from Philox with key `seed` and counter (element / 4, ids[i], iteration,
// purpose << 24 | stream), word element % 4: what happens to an image depends on its id, not on the
// batch. Elements 0 and 1 are the window's place, bits · (height - y_height + 2 · padding + 1) /
// 2^32 - padding, the highest bit of 2 flips, 4 and 5 are the square's centre, bits · y_height
// (y_width) / 2^32; box k = 0 … 9 has elements 8 + 4k to 11 + 4k: area and shape (24 bits), row and
// column; all rounded down. The CPU half runs on the calling thread alone, so that a thread which
// loads data starts no pool of its own.
struct Augment {
  const uint8_t* images;           // [n, height, width, channels]
  const int32_t* ids;              // [n]
  const float* fill;               // [channels]; nullptr: 0
  float* y;                        // [n, y_height, y_width, channels]
  int n, height, width, channels;  // an image has less than 2^31 values
  int y_height, y_width;           // at most height and width
  int max_value;                   // at least 1; a byte v is the pixel v / max_value
  Crop crop;
  int padding;        // of a window, in pixels; else 0
  double least_area;  // of a box, in (0, 1]; then sides are at most kLongestResampled
  Flip flip;
  int cutout;  // side of the square in pixels; 0: none
  uint64_t seed;
  uint32_t iteration, purpose, stream;  // purpose < 2^8, stream < 2^24
};
Status augment(Cpu, const Augment&);
Status augment(Cuda, const Augment&);

// Longer ones could leave the range of the sums.
inline constexpr int kLongestResampled = 4096;

// Where a window in the middle begins: (extent - window) / 2, a half to the even number, as in
// torchvision's CenterCrop.
constexpr int centred(int extent, int window) {
  const int rest = extent - window;
  return (rest + rest / 2 % 2) / 2;
}

}  // namespace moat::kernels
